package shop

//go:generate go run -mod=mod entc.go
