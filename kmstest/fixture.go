package kmstest

import (
	"testing"

	"github.com/kmsencrypted/kmsencrypted/field"
)

// Sealed returns rows sealed as new records, ready to be inserted in any way.
// It fails the test if they cannot be sealed:
//
//	m, _ := field.NewModel[Customer](kmstest.Box(t), field.Config{Table: "customers"})
//	rows := kmstest.Sealed(t, m, Customer{ID: 1, Email: field.New("ada@example.org")})
func Sealed[R any](t testing.TB, m *field.Model[R], rows ...R) []R {
	t.Helper()
	if err := m.SealNew(t.Context(), field.Pointers(rows)...); err != nil {
		t.Fatalf("kmstest: %v", err)
	}
	return rows
}
