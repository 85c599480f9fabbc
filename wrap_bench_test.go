package kmsencrypted_test

import (
	"strconv"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/providers/testkey"
)

// These benchmarks watch allocations: the test key takes next to no time itself.

func benchBox(b *testing.B) *kmsencrypted.Box {
	b.Helper()
	box, err := kmsencrypted.NewBox(testkey.New())
	if err != nil {
		b.Fatal(err)
	}
	return box
}

func benchBinding(id int) kmsencrypted.Binding {
	text := strconv.Itoa(id)
	return kmsencrypted.Binding{
		Table: "customers", Column: "encrypted_kms_key", ID: []string{text},
		Context: kmsencrypted.ModelContext{Name: "Customer", ID: text},
	}
}

func BenchmarkWrap(b *testing.B) {
	box, k, to := benchBox(b), kmsencrypted.NewDataKey(), benchBinding(1)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := box.Wrap(b.Context(), k, to); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnwrap(b *testing.B) {
	box, from := benchBox(b), benchBinding(1)
	column, err := box.Wrap(b.Context(), kmsencrypted.NewDataKey(), from)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := box.Unwrap(b.Context(), column, from); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkUnwrapAll opens the keys of a page of 100 records.
func BenchmarkUnwrapAll(b *testing.B) {
	const page = 100
	box := benchBox(b)
	keys := make([]kmsencrypted.KeyToWrap, page)
	for i := range keys {
		keys[i] = kmsencrypted.KeyToWrap{Key: kmsencrypted.NewDataKey(), Binding: benchBinding(i + 1)}
	}
	columns := make([]kmsencrypted.WrappedKey, page)
	for i, r := range box.WrapAll(b.Context(), keys) {
		if r.Err != nil {
			b.Fatal(r.Err)
		}
		columns[i] = kmsencrypted.WrappedKey{Column: r.Column, Binding: keys[i].Binding}
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, r := range box.UnwrapAll(b.Context(), columns) {
			if r.Err != nil {
				b.Fatal(r.Err)
			}
		}
	}
}
