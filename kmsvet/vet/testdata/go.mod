module corpus

go 1.26.0

replace github.com/kmsencrypted/kmsencrypted => ../../../

require (
	github.com/jmoiron/sqlx v1.4.0
	github.com/kmsencrypted/kmsencrypted v0.0.0
)

require (
	golang.org/x/crypto v0.43.0 // indirect
	golang.org/x/sys v0.37.0 // indirect
)
