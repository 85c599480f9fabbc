//go:build !linux

package dbserver

import "net/url"

// Only Linux can end a server together with the test binary that started it, so
// elsewhere a test needs a running server.

func startPostgres() (string, error)                      { return "", errNotInstalled }
func startMariaDB() (string, error)                       { return "", errNotInstalled }
func startMySQL() (string, error)                         { return "", errNotInstalled }
func startReplica() (string, string, func() error, error) { return "", "", nil, errNotInstalled }
func startMariaDBReplica() (string, string, error)        { return "", "", errNotInstalled }
func crash(string) error                                  { return errNotInstalled }
func startPgBouncer(*url.URL) (string, error)             { return "", errNotInstalled }
