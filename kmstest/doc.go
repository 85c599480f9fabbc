// Package kmstest helps to test programs that use kmsencrypted. It has boxes that
// need no network, key services that fail on command and record their calls, and
// databases that detect plaintext.
//
//	box := kmstest.Box(t)                         // all is well
//	box := kmstest.Box(t, kmstest.Throttle(0.3))  // three calls in ten are throttled
//
// A box cannot be changed. To make it fail later, use the key service behind it:
//
//	service := kmstest.NewService(nil)
//	box := service.Box(t)
//	…
//	service.Set(kmstest.Unavailable(1)) // the bad day
//	…
//	service.Set()                       // and after it
//	if n := service.Count(kmsencrypted.OpUnwrap); n != 1 { … }
//
// The service stands before any provider, and [Memory] is one that encrypts:
//
//	service := kmstest.NewService(kmstest.Batches(kmstest.Memory(), 25))
//
// Everything here runs under [testing/synctest] too, where a slow or hanging
// service takes no time. [Canary] fails a test when a plaintext reaches the
// database.
package kmstest
