// Package alarms tests the files in deploy/: failures are injected into a program that
// exports its metrics to Prometheus, what was scraped minute by minute goes to promtool with
// the rules, and each failure must ring its alarm and no other.
package alarms
