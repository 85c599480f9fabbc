//go:build cgo

package pkcs11_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/pkcs11"
)

// SoftHSM is a PKCS #11 module in software. It lies here in Debian's package softhsm2.
var softhsm = struct {
	sync.Mutex
	library *pkcs11.Ctx
	tokens  int
	keys    int
}{}

const (
	userPIN    = "user pin 5678"
	officerPIN = "officer pin 1234"
)

func modulePath() string {
	paths, _ := filepath.Glob("/usr/lib/*/softhsm/libsofthsm2.so")
	for _, path := range append([]string{"/usr/lib/softhsm/libsofthsm2.so"}, paths...) {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}

func TestMain(m *testing.M) { os.Exit(runIn(m)) }

// runIn runs the tests with the tokens in a folder of their own.
func runIn(m *testing.M) int {
	folder, err := os.MkdirTemp("", "softhsm")
	if err == nil {
		defer os.RemoveAll(folder)
		configuration := filepath.Join(folder, "softhsm2.conf")
		err = errors.Join(
			os.WriteFile(configuration, []byte("directories.tokendir = "+folder+"\nobjectstore.backend = file\n"), 0o600),
			os.Setenv("SOFTHSM2_CONF", configuration))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// token is a token of SoftHSM with its user logged in.
type token struct {
	*pkcs11.Ctx
	label   string
	slot    uint
	session pkcs11.SessionHandle
}

// newToken makes a token. A provider finds its user logged in.
func newToken(t *testing.T) *token {
	t.Helper()
	made := newIdleToken(t)
	var err error
	made.session, err = made.OpenSession(made.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	must(t, errors.Join(err, made.Login(made.session, pkcs11.CKU_USER, userPIN)))
	return made
}

// newIdleToken makes a token without a session.
func newIdleToken(t *testing.T) *token {
	t.Helper()
	path := modulePath()
	if path == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("no SoftHSM here: apt-get install softhsm2")
		}
		t.Skip("no SoftHSM here: apt-get install softhsm2")
	}
	softhsm.Lock()
	defer softhsm.Unlock()
	if softhsm.library == nil {
		softhsm.library = pkcs11.New(path)
		must(t, softhsm.library.Initialize())
	}
	softhsm.tokens++
	made := &token{Ctx: softhsm.library, label: "token " + strconv.Itoa(softhsm.tokens)}
	slots, err := made.GetSlotList(true)
	must(t, err)
	must(t, made.InitToken(slots[len(slots)-1], officerPIN, made.label)) // the last one is always free
	slots, err = made.GetSlotList(true)
	must(t, err)
	for _, slot := range slots {
		if info, err := made.GetTokenInfo(slot); err == nil && info.Label == made.label {
			made.slot = slot
		}
	}
	session, err := made.OpenSession(made.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	must(t, errors.Join(err, made.Login(session, pkcs11.CKU_SO, officerPIN), made.InitPIN(session, userPIN), made.CloseSession(session)))
	return made
}

// addKey makes an AES key that never leaves the token.
func (k *token) addKey(t *testing.T, label, id string) pkcs11.ObjectHandle {
	t.Helper()
	softhsm.Lock() // a session serves one call at a time
	defer softhsm.Unlock()
	template := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, label), pkcs11.NewAttribute(pkcs11.CKA_ID, []byte(id)),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32), pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
		pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true), pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, true),
		pkcs11.NewAttribute(pkcs11.CKA_WRAP, true), pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, true),
	}
	generate := []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)}
	key, err := k.GenerateKey(k.session, generate, template)
	// Seen with SoftHSM 2.6.1, now and then, while other sessions work.
	for tries := 0; err != nil && tries < 5; tries++ {
		key, err = k.GenerateKey(k.session, generate, template)
	}
	must(t, err)
	return key
}

func (k *token) forbid(t *testing.T, key pkcs11.ObjectHandle, attributes ...uint) {
	t.Helper()
	softhsm.Lock()
	defer softhsm.Unlock()
	for _, a := range attributes {
		must(t, k.SetAttributeValue(k.session, key, []*pkcs11.Attribute{pkcs11.NewAttribute(a, false)}))
	}
}

func (k *token) destroy(t *testing.T, key pkcs11.ObjectHandle) {
	t.Helper()
	softhsm.Lock()
	defer softhsm.Unlock()
	must(t, k.DestroyObject(k.session, key))
}

// newLabel returns the label of a key that no other test uses.
func newLabel() string {
	softhsm.Lock()
	defer softhsm.Unlock()
	softhsm.keys++
	return "customers " + strconv.Itoa(softhsm.keys)
}

func (k *token) uri(attributes string) string {
	return "pkcs11:token=" + strings.ReplaceAll(k.label, " ", "%20") + ";" + strings.ReplaceAll(attributes, " ", "%20") + "?module-path=" + modulePath()
}
