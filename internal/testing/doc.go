// Package testing is empty: the folders below it support the tests of this
// module. No other code imports them, which a test of the root package checks.
//
// Servers and services:
//
//   - dbserver: real PostgreSQL, MariaDB and MySQL servers
//   - mysqlish: MariaDB behind a driver that refuses what MySQL does not have
//   - vaultserver: a real Vault or OpenBao, built from e2e/vaultd
//   - fakes/awskms, fakes/gcpkms: stand-ins that speak the services' protocols
//   - ormtest: one suite for all adapters of database libraries
//   - inplace: random programs that change values in place
//   - badday: a thousand calls while a key service has trouble
//
// What others wrote, and what must be read as they wrote it:
//
//   - vectors: the test data of the Ruby gems, and the folder of the project
//   - kmsvectors: providers held against what the Ruby clients send
//   - railsapp: the models of the Rails application behind testdata/rails
//   - rubyprocess: the Ruby gems themselves, where Ruby is installed
//   - recordings: sessions recorded against real key services
//
// Measures:
//
//   - against: two functions side by side in a benchmark
//   - goroutines: what a test leaves running
//   - peakmemory: the memory that a large file takes
//   - race: whether the race detector is on
package testing
