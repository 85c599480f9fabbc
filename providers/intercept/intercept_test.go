package intercept

import (
	"bytes"
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"testing"

	"github.com/kmsencrypted/kmsencrypted"
)

// plain is a provider without abilities; everything fails.
type plain struct{}

var errPlain = errors.New("plain")

func (plain) Info() kmsencrypted.KeyInfo { return kmsencrypted.KeyInfo{Provider: "plain"} }

func (plain) Encrypt(context.Context, []byte, kmsencrypted.BoundContext) ([]byte, error) {
	return nil, errPlain
}

func (plain) Decrypt(context.Context, []byte, kmsencrypted.BoundContext) ([]byte, error) {
	return nil, errPlain
}

func TestAbilitiesAreKept(t *testing.T) {
	t.Parallel()
	pass := func(ctx context.Context, _ *Call, next func(context.Context) error) error { return next(ctx) }
	for has := range allAbilities + 1 {
		inner := with(&provider{plain{}, nil, pass}, has)
		if got := abilitiesOf(inner); got != has {
			t.Errorf("with(%05b) has %05b", has, got)
		}
		if got := abilitiesOf(Wrap(inner, nil, pass)); got != has {
			t.Errorf("Wrap of %05b has %05b", has, got)
		}
		if Wrap(inner, nil, pass).(kmsencrypted.Unwrapper).Unwrap() != inner {
			t.Errorf("Unwrap of %05b is not what was wrapped", has)
		}
	}
}

// able has all abilities and returns its arguments.
type able struct{ plain }

func (able) Encrypt(_ context.Context, plaintext []byte, _ kmsencrypted.BoundContext) ([]byte, error) {
	return bytes.Clone(plaintext), nil
}

func (able) Decrypt(_ context.Context, ciphertext []byte, _ kmsencrypted.BoundContext) ([]byte, error) {
	return bytes.Clone(ciphertext), nil
}

func (able) BatchSize() int { return 7 }

func (able) EncryptBatch(_ context.Context, items []kmsencrypted.Plain) (results []kmsencrypted.Result, err error) {
	for _, item := range items {
		results = append(results, kmsencrypted.Result{Bytes: bytes.Clone(item.Plaintext())})
	}
	return results, nil
}

func (able) DecryptBatch(_ context.Context, items []kmsencrypted.Wrapped) (results []kmsencrypted.Result, err error) {
	for _, item := range items {
		results = append(results, kmsencrypted.Result{Bytes: bytes.Clone(item.Ciphertext)})
	}
	return results, nil
}

func (able) Rewrap(_ context.Context, from kmsencrypted.Wrapped, source kmsencrypted.Provider, _ kmsencrypted.BoundContext) ([]byte, error) {
	if _, ok := source.(able); !ok {
		return nil, errors.ErrUnsupported
	}
	return bytes.Clone(from.Ciphertext), nil
}

func (able) RewrapBatch(_ context.Context, items []kmsencrypted.Rewrapping, source kmsencrypted.Provider) (results []kmsencrypted.Result, err error) {
	if _, ok := source.(able); !ok {
		return nil, errors.ErrUnsupported
	}
	for _, item := range items {
		results = append(results, kmsencrypted.Result{Bytes: bytes.Clone(item.From.Ciphertext)})
	}
	return results, nil
}

func (able) Probe(context.Context) error { return nil }

func (able) DecryptLegacy(_ context.Context, column string, _ kmsencrypted.BoundContext) ([]byte, error) {
	return []byte(column), nil
}

func (able) EncryptAll(_ context.Context, plaintext []byte, _ kmsencrypted.BoundContext) ([]kmsencrypted.Wrap, error) {
	return []kmsencrypted.Wrap{{Tag: "a", Ciphertext: bytes.Clone(plaintext)}}, nil
}

func (able) DecryptAny(_ context.Context, wraps []kmsencrypted.Wrap, _ kmsencrypted.BoundContext, check func([]byte) error) ([]byte, error) {
	return bytes.Clone(wraps[0].Ciphertext), check(wraps[0].Ciphertext)
}

// everyCall makes each call that a provider with all abilities takes, with the
// value "value" in it, and returns what came back.
var everyCall = map[string]func(ctx context.Context, p kmsencrypted.Provider) (string, error){
	"Encrypt": func(ctx context.Context, p kmsencrypted.Provider) (string, error) {
		out, err := p.Encrypt(ctx, []byte("value"), kmsencrypted.BoundContext{})
		return string(out), err
	},
	"Decrypt": func(ctx context.Context, p kmsencrypted.Provider) (string, error) {
		out, err := p.Decrypt(ctx, []byte("value"), kmsencrypted.BoundContext{})
		return string(out), err
	},
	"EncryptBatch": func(ctx context.Context, p kmsencrypted.Provider) (string, error) {
		return first(p.(kmsencrypted.BatchProvider).EncryptBatch(ctx, []kmsencrypted.Plain{kmsencrypted.NewPlain([]byte("value"), kmsencrypted.BoundContext{})}))
	},
	"DecryptBatch": func(ctx context.Context, p kmsencrypted.Provider) (string, error) {
		return first(p.(kmsencrypted.BatchProvider).DecryptBatch(ctx, []kmsencrypted.Wrapped{{Ciphertext: []byte("value")}}))
	},
	"Rewrap": func(ctx context.Context, p kmsencrypted.Provider) (string, error) {
		out, err := p.(kmsencrypted.Rewrapper).Rewrap(ctx, kmsencrypted.Wrapped{Ciphertext: []byte("value")}, p, kmsencrypted.BoundContext{})
		return string(out), err
	},
	"RewrapBatch": func(ctx context.Context, p kmsencrypted.Provider) (string, error) {
		items := []kmsencrypted.Rewrapping{{From: kmsencrypted.Wrapped{Ciphertext: []byte("value")}}}
		return first(p.(kmsencrypted.BatchRewrapper).RewrapBatch(ctx, items, p))
	},
	"Probe": func(ctx context.Context, p kmsencrypted.Provider) (string, error) {
		return "value", p.(kmsencrypted.Prober).Probe(ctx)
	},
	"DecryptLegacy": func(ctx context.Context, p kmsencrypted.Provider) (string, error) {
		out, err := p.(kmsencrypted.LegacyDecrypter).DecryptLegacy(ctx, "value", kmsencrypted.BoundContext{})
		return string(out), err
	},
	"EncryptAll": func(ctx context.Context, p kmsencrypted.Provider) (string, error) {
		wraps, err := p.(kmsencrypted.MultiWrapper).EncryptAll(ctx, []byte("value"), kmsencrypted.BoundContext{})
		if err != nil {
			return "", err
		}
		return string(wraps[0].Ciphertext), nil
	},
	"DecryptAny": func(ctx context.Context, p kmsencrypted.Provider) (string, error) {
		out, err := p.(kmsencrypted.MultiWrapper).DecryptAny(ctx, []kmsencrypted.Wrap{{Ciphertext: []byte("value")}}, kmsencrypted.BoundContext{}, func([]byte) error { return nil })
		return string(out), err
	},
}

func first(results []kmsencrypted.Result, err error) (string, error) {
	if err != nil {
		return "", err
	}
	return string(results[0].Bytes), results[0].Err
}

func TestEveryCallIsIntercepted(t *testing.T) {
	t.Parallel()
	for name, call := range everyCall {
		var seen *Call
		p := Wrap(Wrap(able{}, nil, func(ctx context.Context, _ *Call, next func(context.Context) error) error { return next(ctx) }), nil,
			func(ctx context.Context, c *Call, next func(context.Context) error) error {
				seen = c
				if err := next(ctx); err != nil {
					return err
				}
				return next(ctx) // the second answer counts
			})
		got, err := call(t.Context(), p)
		if err != nil || got != "value" {
			t.Errorf("%s = %q, %v, want what the provider answers", name, got, err)
		}
		if seen == nil {
			t.Errorf("%s is not intercepted", name)
		} else if seen.Op != OpProbe && (len(seen.Contexts) != 1 || len(seen.Answers) != 1 || string(seen.Answers[0]) != "value") {
			t.Errorf("%s is seen as %+v, want one context and the answer", name, seen)
		}
		failing := Wrap(able{}, nil, func(ctx context.Context, c *Call, next func(context.Context) error) error {
			return errors.Join(next(ctx), errPlain)
		})
		if got, err := call(t.Context(), failing); !errors.Is(err, errPlain) || got == "value" && name != "Probe" {
			t.Errorf("%s = %q, %v, want the error of the function alone", name, got, err)
		}
	}
	if got := Wrap(able{}, nil, nil).(kmsencrypted.BatchProvider).BatchSize(); got != 7 {
		t.Errorf("BatchSize() = %d, want 7", got)
	}
}

// oneByOne rewraps and takes batches, but not both at once.
type oneByOne struct{ kmsencrypted.Provider }

func (oneByOne) BatchSize() int { return 7 }

func (oneByOne) EncryptBatch(context.Context, []kmsencrypted.Plain) ([]kmsencrypted.Result, error) {
	return nil, errPlain
}

func (oneByOne) DecryptBatch(context.Context, []kmsencrypted.Wrapped) ([]kmsencrypted.Result, error) {
	return nil, errPlain
}

func (oneByOne) Rewrap(context.Context, kmsencrypted.Wrapped, kmsencrypted.Provider, kmsencrypted.BoundContext) ([]byte, error) {
	return nil, errPlain
}

func TestRewrapBatchOfOneThatHasNone(t *testing.T) {
	t.Parallel()
	p := Wrap(oneByOne{plain{}}, nil, func(context.Context, *Call, func(context.Context) error) error {
		t.Error("a batch that the provider does not take is seen as a request")
		return nil
	})
	if _, err := p.(kmsencrypted.BatchRewrapper).RewrapBatch(t.Context(), nil, p); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("RewrapBatch: %v, want %v", err, errors.ErrUnsupported)
	}
}

func TestMistakesAreReported(t *testing.T) {
	t.Parallel()
	inner, outer := errors.New("inner"), errors.New("outer")
	p := Wrap(Wrap(plain{}, inner, nil), outer, nil)
	if err := p.(interface{ Check() error }).Check(); !errors.Is(err, inner) || !errors.Is(err, outer) {
		t.Errorf("Check() = %v, want both mistakes", err)
	}
	if err := Wrap(plain{}, nil, nil).(interface{ Check() error }).Check(); err != nil {
		t.Errorf("Check() = %v", err)
	}
}

// TestEveryAbilityIsKnown reads provider.go: an interface there that embeds
// Provider is either one that a request goes to, and so has a shape here, or one
// that Ability finds behind this package's providers.
func TestEveryAbilityIsKnown(t *testing.T) {
	t.Parallel()
	known := []string{"BatchProvider", "Rewrapper", "BatchRewrapper", "Prober", "LegacyDecrypter", "MultiWrapper", // shapes
		"InMemory",                                                                              // of calls that a function in front would slow down
		"Unwrapper", "Checker", "RewrapForeteller", "WrapCounter", "versionChecker", "brancher"} // without a request
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", "..", "provider.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.TypeSpec); ok {
			if _, ok := spec.Type.(*ast.InterfaceType); ok && spec.Name.Name != "Provider" {
				found++
				if !slices.Contains(known, spec.Name.Name) {
					t.Errorf("provider.go has the ability %s: give it a shape in this package, or add it to this list", spec.Name.Name)
				}
			}
		}
		return true
	})
	if found != len(known) {
		t.Errorf("provider.go has %d abilities, this test knows %d", found, len(known))
	}
}
