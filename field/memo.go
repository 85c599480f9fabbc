package field

// Memo returns what f returned the first time that it was asked for key: for
// adapters, which work out once for each model how its struct meets their
// library. Keys are compared with ==; use a type of your own. f may run more than
// once at the same time; the first result is kept and an error is not. It is safe
// for concurrent use.
func (m *Model[R]) Memo(key any, f func() (any, error)) (any, error) {
	if v, ok := m.memo.Load(key); ok {
		return v, nil
	}
	v, err := f()
	if err != nil {
		return nil, err
	}
	v, _ = m.memo.LoadOrStore(key, v)
	return v, nil
}
