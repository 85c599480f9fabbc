//go:build !linux

package dbserver

// Only Linux ends a server together with the test binary that started it, so
// elsewhere a test needs a server that runs already.

func startPostgres() (string, error) { return "", errNotInstalled }
func startMariaDB() (string, error)  { return "", errNotInstalled }
func startMySQL() (string, error)    { return "", errNotInstalled }
