package rotatecli

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/kmsencrypted/kmsencrypted"
	"github.com/kmsencrypted/kmsencrypted/providers/branch"
)

type doctorCmd struct {
	Key     string            `placeholder:"ID" help:"The key to try, such as vault/customers. Without it: those of all versions."`
	Context map[string]string `arg:"" optional:"" name:"name=value" mapsep:"none" help:"The encryption context to try under, which chooses the key where a version has several. Without it: one that names no record."`
	Clock   string            `placeholder:"URL" help:"Compare the clock with the Date of an answer from this address, such as that of Vault."`
	Timeout time.Duration     `default:"30s" help:"For each key."`
}

func (doctorCmd) Help() string {
	return `It wraps 32 random bytes under each key and unwraps them again. Of branch keys it opens
one that exists, and tries the keys under them. Where a version chooses the key of each
record, the context decides which one is tried. Examples:

  doctor --key vault/customers --clock "$VAULT_ADDR"
  doctor --key alias/customers model_name=User model_id=7
  doctor tenant=acme
  doctor

✓ works, ✗ does not, – is not known or does not apply. Exit codes: 0 all keys that were
tried can encrypt, 2 not so or none was tried.`
}

func (c *doctorCmd) Run(ctx context.Context, s *Session) error {
	ec := doctorContext
	if len(c.Context) > 0 {
		ec = kmsencrypted.Context{}
		for name, value := range c.Context {
			ec[name] = value
		}
	}
	bound, err := kmsencrypted.Bind(ec)
	if err != nil {
		return err
	}
	providers, err := c.providers(ctx, s, bound)
	if err != nil {
		return err
	}
	healthy, tried := true, false
	for _, named := range providers {
		s.printf("%s\n", named.name)
		tried = tried || named.provider != nil
		healthy = examine(ctx, c.Timeout, named, bound, s.printObservation) && healthy
	}
	if c.Clock != "" {
		healthy = s.checkClock(ctx, c.Clock) && healthy
	}
	if !healthy || !tried {
		return exit{ExitFailures}
	}
	return nil
}

// doctorContext names no record.
var doctorContext = kmsencrypted.Context{"model_name": "kmsencrypted doctor", "model_id": "0"}

type namedProvider struct {
	name     string
	provider kmsencrypted.Provider // nil if the context does not say which
	err      error                 // of the choice
}

func (c *doctorCmd) providers(ctx context.Context, s *Session, bound kmsencrypted.BoundContext) ([]namedProvider, error) {
	if c.Key != "" {
		p, err := s.openKey(ctx, c.Key)
		return []namedProvider{{c.Key, p, nil}}, err
	}
	tables, err := s.all(ctx)
	if err != nil {
		return nil, err
	}
	if len(c.Context) == 0 {
		return providersOf(tables, nil)
	}
	return providersOf(tables, &bound)
}

// providersOf returns those of all versions. Where a version chooses a key for each record,
// the context does it here; nil chooses none.
func providersOf(tables []*table, chooses *kmsencrypted.BoundContext) ([]namedProvider, error) {
	var all []namedProvider
	for _, box := range boxes(tables) {
		for _, n := range box.Versions() {
			v, err := box.Version(n)
			if err != nil {
				return nil, err
			}
			all = append(all, providerOf(n, v, chooses))
		}
	}
	return all, nil
}

func providerOf(n int, v kmsencrypted.Version, chooses *kmsencrypted.BoundContext) namedProvider {
	named := namedProvider{name: fmt.Sprintf("version %d: %s", n, cmp.Or(infoOf(v).KeyID, perRecord)), provider: v.Provider}
	if v.ProviderFor == nil || chooses == nil {
		return named
	}
	if v.Provider, named.err = v.ProviderFor(kmsencrypted.Subject{Version: n}, *chooses); named.err == nil && v.Provider == nil {
		named.err = errors.New("ProviderFor returned no provider")
	}
	if named.err == nil {
		named.name, named.provider = fmt.Sprintf("version %d: %s, chosen by the context", n, infoOf(v).KeyID), v.Provider
	}
	return named
}

// openKey opens a key by its id, if the program can.
func (s *Session) openKey(ctx context.Context, id string) (kmsencrypted.Provider, error) {
	if s.OpenKey == nil {
		return nil, usage("this program cannot open a key by its id: without --key it tests the keys of its versions")
	}
	return s.OpenKey(ctx, id)
}

// observation is what an examination of a key found out.
type observation struct {
	depth int // of keys under other keys
	mark  string
	// text has no name of a record. {} stands for name.
	text, name string
	err        error
	took       time.Duration // since the last observation: that of a request
}

// anonymous is the text without the name and the error.
func (o observation) anonymous() string {
	return cmp.Or(strings.ReplaceAll(o.text, "{}", "…"), "does not work")
}

// marks at the start of a line
const (
	works   = "✓"
	fails   = "✗"
	unknown = "–"
)

func (s *Session) printObservation(o observation) {
	text := strings.ReplaceAll(o.text, "{}", o.name)
	if o.err != nil && text != "" {
		text += ": "
	}
	if o.err != nil {
		text += oneLine(o.err)
	}
	s.printf("%s  %s %s\n", strings.Repeat("  ", o.depth), o.mark, text)
}

// examine examines a key and tells what it finds out.
func examine(ctx context.Context, timeout time.Duration, key namedProvider, bound kmsencrypted.BoundContext, tell func(observation)) (healthy bool) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	began := time.Now()
	e := examination{ctx: ctx, provider: key.provider, bound: bound, tell: func(o observation) {
		o.took = time.Since(began)
		tell(o)
		began = time.Now()
	}}
	switch {
	case key.err != nil:
		e.say(fails, "chooses no key", key.err)
		return false
	case key.provider == nil:
		e.say(unknown, "not tried: the context of a record chooses its key. Try doctor tenant=acme, or doctor --key", nil)
		return true
	}
	return e.run()
}

// examination examines one key.
type examination struct {
	ctx      context.Context
	provider kmsencrypted.Provider
	bound    kmsencrypted.BoundContext
	depth    int // of keys under other keys
	tell     func(observation)
}

func (e *examination) say(mark, text string, err error) { e.sayOf("", mark, text, err) }

func (e *examination) sayOf(name, mark, text string, err error) {
	e.tell(observation{depth: e.depth, mark: mark, text: text, name: name, err: err})
}

func (e *examination) run() (healthy bool) {
	if keys, ok := kmsencrypted.Ability[*branch.Provider](e.provider); ok {
		return e.branches(keys)
	}
	info := e.provider.Info()
	if info.Insecure {
		e.say(fails, "INSECURE: whoever sees a ciphertext can open it; for tests only", nil)
	}
	e.probe()
	wraps, err := e.encrypt()
	if err != nil {
		e.say(fails, "may not encrypt", err)
		e.logged(info)
		return false
	}
	e.say(works, "may encrypt", nil)
	e.decrypt(wraps, info)
	e.logged(info)
	return !info.Insecure
}

func (e *examination) probe() {
	p, ok := e.provider.(kmsencrypted.Prober)
	if !ok {
		e.say(unknown, "the service cannot be asked about its key", nil)
		return
	}
	switch err := p.Probe(e.ctx); {
	case err == nil:
		e.say(works, "reachable, and the key can be used", nil)
	case errors.Is(err, kmsencrypted.ErrDenied):
		e.say(unknown, "reachable, but may not be asked about the key", err)
	default:
		e.say(fails, "", err)
	}
}

// encrypt wraps random bytes, like a data key.
func (e *examination) encrypt() ([]kmsencrypted.Wrap, error) {
	plaintext := make([]byte, kmsencrypted.DataKeySize)
	rand.Read(plaintext)
	defer clear(plaintext)
	if multi, ok := e.provider.(kmsencrypted.MultiWrapper); ok {
		return multi.EncryptAll(e.ctx, plaintext, e.bound)
	}
	ciphertext, err := e.provider.Encrypt(e.ctx, plaintext, e.bound)
	return []kmsencrypted.Wrap{{Ciphertext: ciphertext}}, err
}

func (e *examination) open(wraps []kmsencrypted.Wrap, bound kmsencrypted.BoundContext) error {
	var plaintext []byte
	var err error
	if multi, ok := e.provider.(kmsencrypted.MultiWrapper); ok {
		plaintext, err = multi.DecryptAny(e.ctx, wraps, bound, func([]byte) error { return nil })
	} else {
		plaintext, err = e.provider.Decrypt(e.ctx, wraps[0].Ciphertext, bound)
	}
	clear(plaintext)
	return err
}

func (e *examination) decrypt(wraps []kmsencrypted.Wrap, info kmsencrypted.KeyInfo) {
	switch err := e.open(wraps, e.bound); {
	case errors.Is(err, kmsencrypted.ErrDenied):
		e.say(fails, "may not decrypt: permission denied, as it should be on a server that only encrypts", nil)
		e.say(unknown, "whether the context is checked cannot be tried without permission to decrypt", nil)
		return
	case err != nil:
		e.say(fails, "does not decrypt", err)
		return
	}
	e.say(works, "may decrypt", nil)
	other, err := kmsencrypted.Bind(kmsencrypted.Context{"model_name": "kmsencrypted doctor", "model_id": "another"})
	if err != nil {
		return
	}
	switch err := e.open(wraps, other); {
	case errors.Is(err, kmsencrypted.ErrDecrypt):
		e.say(works, "the context is checked: nothing opens under another one", nil)
	case err == nil:
		e.say(fails, "THE CONTEXT IS IGNORED: a wrapped key opens under any. "+remedies[info.Provider], nil)
	default:
		e.say(unknown, "whether the context is checked is not known", err)
	}
}

// remedies are for a key that ignores the context.
var remedies = map[string]string{
	"vault": "The key was made without derived=true; make another one with it and rotate to that",
}

// logs says by provider where a decryption is logged.
var logs = map[string]string{
	"aws":   "CloudTrail logs each Encrypt, Decrypt and ReEncrypt with the context in plain text, as",
	"gcp":   "Cloud Audit Logs (data access, if switched on) log each Encrypt and Decrypt; the context is not in them, it is sent as",
	"vault": "audit devices log each request with the context hashed (see context-hash); it is sent as",
	"local": "nothing is logged: a local key has no log. The context is",
}

func (e *examination) logged(info kmsencrypted.KeyInfo) {
	text, ok := logs[info.Provider]
	if !ok {
		text = "what " + info.Provider + " logs is not known here. The context is"
	}
	e.sayOf(e.bound.String(), unknown, text+" {}", nil)
}

// mostSkew is the largest acceptable clock difference: AWS refuses requests
// beyond it, and tokens expire early or late.
const mostSkew = 5 * time.Minute

// checkClock compares the clock with that of a server, to about a second.
func (s *Session) checkClock(ctx context.Context, url string) (right bool) {
	s.printf("clock\n")
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	before := time.Now()
	date, err := dateOf(ctx, url)
	if err != nil {
		s.printf("  %s not compared: %s\n", unknown, oneLine(err))
		return true
	}
	skew := date.Sub(before.Add(time.Since(before) / 2)).Round(time.Second)
	switch {
	case skew.Abs() >= mostSkew:
		s.printf("  %s wrong by %s: AWS refuses requests, and tokens expire at the wrong time\n", fails, span(skew.Abs()))
		return false
	case skew.Abs() > 2*time.Second:
		s.printf("  %s differs by %s\n", works, span(skew.Abs()))
	default:
		s.printf("  %s right\n", works)
	}
	return true
}

func dateOf(ctx context.Context, url string) (time.Time, error) {
	if !strings.HasPrefix(url, "http://") && !strings.HasPrefix(url, "https://") {
		return time.Time{}, fmt.Errorf("%q is not an http or https address", url)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodHead, url, nil)
	if err != nil {
		return time.Time{}, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return time.Time{}, err
	}
	answer.Body.Close()
	return http.ParseTime(answer.Header.Get("Date"))
}
