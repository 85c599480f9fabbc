//go:build cgo

package pkcs11_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	hsm "github.com/miekg/pkcs11"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/internal/testing/zerotest"
	"github.com/kmsencrypted/kmsencrypted/providers/pkcs11"
	"github.com/kmsencrypted/kmsencrypted/providers/providertest"
)

var (
	secret     = []byte("32 bytes that no error may hold!")
	user       = kmsencrypted.Context{"model_name": "User", "model_id": 123}
	mechanisms = []pkcs11.Mechanism{pkcs11.AESGCM, pkcs11.AESKeyWrap}
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func fails(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error = %v, want %v", err, want)
	}
}

func bind(t *testing.T, ec kmsencrypted.EncryptionContext) kmsencrypted.BoundContext {
	t.Helper()
	bound, err := kmsencrypted.Bind(ec)
	must(t, err)
	return bound
}

func pin(context.Context) (string, error) { return userPIN, nil }

func open(t *testing.T, uri string, options pkcs11.Options) *pkcs11.Provider {
	t.Helper()
	if options.PIN == nil {
		options.PIN = pin
	}
	p, err := pkcs11.Open(uri, options)
	must(t, err)
	t.Cleanup(func() { must(t, p.Close()) })
	return p
}

func TestProvider(t *testing.T) {
	t.Parallel()
	token := newToken(t)
	for _, mechanism := range mechanisms {
		t.Run(string(mechanism), func(t *testing.T) {
			t.Parallel()
			isWrap := mechanism == pkcs11.AESKeyWrap
			providertest.Run(t, providertest.Harness{
				Deterministic: isWrap,
				Lacks: map[string]string{
					"Rotate":    "a token has no versions of a key: TestRotation has its way",
					"Throttle":  "SoftHSM has no quota",
					"Interrupt": "SoftHSM is in the process; TestSessionsLost has what can be lost",
					"Hang":      "SoftHSM always answers",
				},
				Open: func(t *testing.T) providertest.Key {
					label := newLabel()
					key := token.addKey(t, label, "1")
					token.addKey(t, label+" other", "1")
					options := pkcs11.Options{Mechanism: mechanism}
					wrap, unwrap := uint(hsm.CKA_ENCRYPT), uint(hsm.CKA_DECRYPT)
					if isWrap {
						wrap, unwrap = hsm.CKA_WRAP, hsm.CKA_UNWRAP
					}
					return providertest.Key{
						Provider:    open(t, token.uri("object="+label), options),
						Other:       open(t, token.uri("object="+label+" other"), options),
						Missing:     open(t, token.uri("object="+label+" missing"), options),
						Disable:     func(t *testing.T) { token.destroy(t, key) },
						DenyEncrypt: func(t *testing.T) { token.forbid(t, key, wrap) },
						DenyDecrypt: func(t *testing.T) { token.forbid(t, key, unwrap) },
					}
				},
			})
		})
	}
}

// A second key of the same label is that of new data keys once the URI names its id;
// the first goes on unwrapping.
func TestRotation(t *testing.T) {
	t.Parallel()
	token, label := newToken(t), newLabel()
	first := token.addKey(t, label, "\x01")
	before, err := open(t, token.uri("object="+label), pkcs11.Options{}).Encrypt(t.Context(), secret, bind(t, user))
	must(t, err)
	token.addKey(t, label, "\x02")
	_, err = open(t, token.uri("object="+label), pkcs11.Options{}).Encrypt(t.Context(), secret, bind(t, user))
	fails(t, err, kmsencrypted.ErrConfig) // which one?
	p := open(t, token.uri("object="+label+";id=%02"), pkcs11.Options{})
	after, err := p.Encrypt(t.Context(), secret, bind(t, user))
	must(t, err)
	for name, ciphertext := range map[string][]byte{"first": before, "second": after} {
		got, err := p.Decrypt(t.Context(), ciphertext, bind(t, user))
		if err != nil || !bytes.Equal(got, secret) {
			t.Errorf("under the %s key: %q, %v", name, got, err)
		}
	}
	exchanged := bytes.Clone(before)
	exchanged[3] = 2 // the id
	_, err = p.Decrypt(t.Context(), exchanged, bind(t, user))
	fails(t, err, kmsencrypted.ErrDecrypt)
	byID := open(t, token.uri("id=%02"), pkcs11.Options{})
	_, err = byID.Decrypt(t.Context(), after, bind(t, user))
	must(t, err)
	_, err = byID.Decrypt(t.Context(), before, bind(t, user))
	fails(t, err, kmsencrypted.ErrDecrypt)
	token.destroy(t, first)
	_, err = p.Decrypt(t.Context(), before, bind(t, user))
	fails(t, err, kmsencrypted.ErrDecrypt)
	if err == nil || !strings.Contains(err.Error(), "id 01") {
		t.Errorf("error = %v, want one that names the key that is gone", err)
	}
}

func TestMechanismsApart(t *testing.T) {
	t.Parallel()
	token, label := newToken(t), newLabel()
	token.addKey(t, label, "1")
	gcm, kw := open(t, token.uri("object="+label), pkcs11.Options{}), open(t, token.uri("object="+label), pkcs11.Options{Mechanism: pkcs11.AESKeyWrap})
	ciphertext, err := kw.Encrypt(t.Context(), secret, bind(t, user))
	must(t, err)
	_, err = gcm.Decrypt(t.Context(), ciphertext, bind(t, user))
	fails(t, err, kmsencrypted.ErrDecrypt)
	if gcm.Info().IgnoresContext || !kw.Info().IgnoresContext {
		t.Errorf("Info = %+v and %+v: AES-GCM binds the context, AES-KW does not", gcm.Info(), kw.Info())
	}
}

// A token that was reset has neither sessions nor a login. Every call opens new ones.
func TestSessionsLost(t *testing.T) {
	t.Parallel()
	token, label := newToken(t), newLabel()
	token.addKey(t, label, "1")
	p := open(t, token.uri("object="+label), pkcs11.Options{})
	ciphertext, err := p.Encrypt(t.Context(), secret, bind(t, user))
	must(t, err)
	var wait sync.WaitGroup
	for range 20 {
		must(t, token.CloseAllSessions(token.slot))
		for range 4 {
			wait.Go(func() {
				if got, err := p.Decrypt(t.Context(), ciphertext, bind(t, user)); err != nil || !bytes.Equal(got, secret) {
					t.Errorf("after a reset: %q, %v", got, err)
				}
			})
		}
		wait.Wait()
	}
}

// A token locks itself after a few wrong PINs, so that one is not tried twice.
func TestPIN(t *testing.T) {
	t.Parallel()
	token := newIdleToken(t)
	file := filepath.Join(t.TempDir(), "pin")
	must(t, os.WriteFile(file, []byte("wrong\n"), 0o600))
	p, err := pkcs11.Open(token.uri("object=none")+"&pin-source=file:"+file, pkcs11.Options{})
	must(t, err)
	defer p.Close()
	for i := range 20 {
		err := p.Probe(t.Context())
		fails(t, err, kmsencrypted.ErrDenied)
		if i == 0 {
			fails(t, err, hsm.Error(hsm.CKR_PIN_INCORRECT))
		} else if errors.Is(err, hsm.Error(hsm.CKR_PIN_INCORRECT)) {
			t.Fatalf("the token was asked a second time: %v", err)
		}
	}
	must(t, os.WriteFile(file, []byte(userPIN+"\n"), 0o600))
	fails(t, p.Probe(t.Context()), kmsencrypted.ErrKeyUnusable) // logged in: there is no such key
}

func TestBadURIs(t *testing.T) {
	t.Parallel()
	for _, uri := range []string{
		"", "customers", "pkcs11:", "pkcs11:token=a;object=b", "pkcs11:object=b?module-path=m", "pkcs11:token=a?module-path=m",
		"pkcs11:token=a;object=b;object=c?module-path=m", "pkcs11:token=a;object=%zz?module-path=m", "pkcs11:token=a;object=b;slot-id=1?module-path=m",
		"pkcs11:token=a;object=b?module-path=m&pin-value=5678", "pkcs11:token=a;object=b?module-path=m&pin-source=%7Ccat",
		"pkcs11:token=a;object=b?module-path=/dev/null", "pkcs11:token=a;id=" + strings.Repeat("%01", 256) + "?module-path=m",
	} {
		_, err := pkcs11.Open(uri, pkcs11.Options{})
		fails(t, err, kmsencrypted.ErrConfig)
		if strings.Contains(fmt.Sprint(err), "5678") {
			t.Errorf("Open(%q) = %v: it shows the PIN", uri, err)
		}
	}
	for _, options := range []pkcs11.Options{{Mechanism: "DES"}, {Sessions: -1}} {
		_, err := pkcs11.Open("pkcs11:token=a;object=b?module-path=m", options)
		fails(t, err, kmsencrypted.ErrConfig)
	}
}

func TestTokenIsAway(t *testing.T) {
	t.Parallel()
	newIdleToken(t) // or skips
	p := open(t, "pkcs11:token=nobody;object=b?module-path="+modulePath(), pkcs11.Options{})
	fails(t, p.Probe(t.Context()), kmsencrypted.ErrUnavailable)
	_, err := p.Encrypt(t.Context(), secret, bind(t, user))
	fails(t, err, kmsencrypted.ErrUnavailable)
}

// Close waits for calls, and what comes after it is refused.
func TestClose(t *testing.T) {
	t.Parallel()
	token, label := newToken(t), newLabel()
	token.addKey(t, label, "1")
	p, err := pkcs11.Open(token.uri("object="+label), pkcs11.Options{PIN: pin, Sessions: 2})
	must(t, err)
	var wait sync.WaitGroup
	for range 50 {
		wait.Go(func() {
			_, err := p.Encrypt(t.Context(), secret, bind(t, user))
			if err != nil && !errors.Is(err, kmsencrypted.ErrConfig) {
				t.Error(err)
			}
		})
	}
	must(t, p.Close())
	must(t, p.Close())
	wait.Wait()
	_, err = p.Encrypt(t.Context(), secret, bind(t, user))
	fails(t, err, kmsencrypted.ErrConfig)
}

func TestTamperedEverywhere(t *testing.T) {
	t.Parallel()
	token, label := newToken(t), newLabel()
	token.addKey(t, label, "1")
	for _, mechanism := range mechanisms {
		p := open(t, token.uri("object="+label), pkcs11.Options{Mechanism: mechanism})
		ciphertext, err := p.Encrypt(t.Context(), secret, bind(t, user))
		must(t, err)
		for i := range ciphertext {
			changed := bytes.Clone(ciphertext)
			changed[i] ^= 1
			_, err := p.Decrypt(t.Context(), changed, bind(t, user))
			fails(t, err, kmsencrypted.ErrDecrypt)
			_, err = p.Decrypt(t.Context(), ciphertext[:i], bind(t, user))
			fails(t, err, kmsencrypted.ErrDecrypt)
		}
	}
}

func TestZeroValues(t *testing.T) {
	t.Parallel()
	zerotest.Methods(t, new(pkcs11.Provider), "Close")
	zerotest.Methods(t, (*pkcs11.Provider)(nil), "Close")
}

// A whole box over the token.
func TestUnderABox(t *testing.T) {
	t.Parallel()
	token, label := newToken(t), newLabel()
	token.addKey(t, label, "1")
	box, err := kmsencrypted.NewBox(open(t, token.uri("object="+label), pkcs11.Options{}))
	must(t, err)
	to := kmsencrypted.Binding{Table: "t", Column: "k", ID: []string{"7"}, Context: user}
	key := kmsencrypted.NewDataKey()
	column, err := box.Wrap(t.Context(), key, to)
	must(t, err)
	got, err := box.Unwrap(t.Context(), column, to)
	must(t, err)
	if !got.Equal(key) {
		t.Error("another data key came back")
	}
}

// Go's own ciphers open by the bytes of spec/pkcs11.md what the token made.
func TestNativeFormat(t *testing.T) {
	t.Parallel()
	token, label := newToken(t), newLabel()
	key := bytes.Repeat([]byte{7}, 32)
	_, err := token.CreateObject(token.session, []*hsm.Attribute{
		hsm.NewAttribute(hsm.CKA_CLASS, hsm.CKO_SECRET_KEY), hsm.NewAttribute(hsm.CKA_KEY_TYPE, hsm.CKK_AES), hsm.NewAttribute(hsm.CKA_TOKEN, true),
		hsm.NewAttribute(hsm.CKA_LABEL, label), hsm.NewAttribute(hsm.CKA_ID, []byte{0xab, 0xcd}), hsm.NewAttribute(hsm.CKA_VALUE, key),
		hsm.NewAttribute(hsm.CKA_ENCRYPT, true), hsm.NewAttribute(hsm.CKA_DECRYPT, true),
	})
	must(t, err)
	p := open(t, token.uri("object="+label), pkcs11.Options{})
	block, err := aes.NewCipher(key)
	must(t, err)
	aead, err := cipher.NewGCM(block)
	must(t, err)
	item := func(text string) string { return string(binary.BigEndian.AppendUint32(nil, uint32(len(text)))) + text }
	for name, ec := range map[string]kmsencrypted.EncryptionContext{"a context": user, "none": nil} {
		bound := bind(t, ec)
		ad := item("kmsencrypted/1 pkcs11") + item("\xab\xcd")
		if ec != nil {
			ad += item(string(bound.Bytes()))
		}
		ciphertext, err := p.Encrypt(t.Context(), secret, bound)
		must(t, err)
		if want := "\x01\x01\x02\xab\xcd"; string(ciphertext[:5]) != want {
			t.Fatalf("%s: it begins with %x, want %x", name, ciphertext[:5], want)
		}
		got, err := aead.Open(nil, ciphertext[5:17], ciphertext[17:], []byte(ad))
		if err != nil || !bytes.Equal(got, secret) {
			t.Errorf("%s: Go's AES-GCM = %q, %v", name, got, err)
		}
	}
}
