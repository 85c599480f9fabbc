package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kmsencrypted/kmsencrypted/files/storage"
)

// credentialServers are the servers that give credentials, all in this process: the
// metadata of an instance, that of a container, and STS.
type credentialServers struct {
	url     string
	expires time.Duration // of the credentials
	given   atomic.Int64
}

func newCredentialServers(t *testing.T) *credentialServers {
	t.Helper()
	s := &credentialServers{expires: time.Hour}
	// Each answer has another access key, so that one can tell who was asked, and how often.
	answer := func(who string) string {
		return fmt.Sprintf("AKIA%s%d", who, s.given.Add(1))
	}
	until := func() string { return time.Now().Add(s.expires).UTC().Format(time.RFC3339) }
	metadata := func(w http.ResponseWriter, who string) {
		fmt.Fprintf(w, `{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":%q,"SecretAccessKey":"secret00","Token":"token","Expiration":%q}`, answer(who), until())
	}
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /latest/api/token", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "600")
		io.WriteString(w, "session")
	})
	mux.HandleFunc("GET /latest/meta-data/iam/security-credentials/{$}", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "role") })
	mux.HandleFunc("GET /latest/meta-data/iam/security-credentials/role", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Aws-Ec2-Metadata-Token") != "session" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		metadata(w, "INSTANCE")
	})
	mux.HandleFunc("GET /container", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "of the container" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		metadata(w, "CONTAINER")
	})
	mux.HandleFunc("POST /sts", func(w http.ResponseWriter, r *http.Request) { // AssumeRole and AssumeRoleWithWebIdentity
		action := r.FormValue("Action")
		who := "ROLE"
		if action == "AssumeRoleWithWebIdentity" {
			who = "WEB"
			if r.FormValue("WebIdentityToken") != "a token" {
				w.WriteHeader(http.StatusForbidden)
				return
			}
		}
		w.Header().Set("Content-Type", "text/xml")
		fmt.Fprintf(w, `<%[1]sResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><%[1]sResult><AssumedRoleUser><Arn>arn:aws:sts::1:assumed-role/r/s</Arn><AssumedRoleId>A:s</AssumedRoleId></AssumedRoleUser><Credentials><AccessKeyId>%[2]s</AccessKeyId><SecretAccessKey>secret00</SecretAccessKey><SessionToken>token</SessionToken><Expiration>%[3]s</Expiration></Credentials></%[1]sResult></%[1]sResponse>`,
			action, answer(who), until())
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

// The chain of AWS's SDK, each link by itself: where the credentials of a service come
// from, and that they are got anew when they expire. It sets the environment, so it runs
// alone.
func TestStorageCredentialChain(t *testing.T) {
	servers := newCredentialServers(t)
	var used atomic.Pointer[string]
	store := newStorageServer(t, func(_ http.ResponseWriter, r *http.Request) bool {
		if _, after, ok := strings.Cut(r.Header.Get("Authorization"), "Credential="); ok {
			id, _, _ := strings.Cut(after, "/")
			used.Store(&id)
		}
		return false
	})
	folder := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(folder, name)
		must(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	shared := file("credentials", "[default]\naws_access_key_id = AKIASHARED\naws_secret_access_key = secret00\n\n[other]\naws_access_key_id = AKIAOTHER\naws_secret_access_key = secret00\n")
	role := file("config", "[profile role]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = default\nregion = us-east-1\n")
	token := file("token", "a token")
	host, err := url.Parse(servers.url)
	must(t, err)
	for name, test := range map[string]struct {
		environment map[string]string
		settings    []string
		want        string
		renewed     bool
	}{
		"the configuration comes first":  {map[string]string{"AWS_ACCESS_KEY_ID": "AKIAENV", "AWS_SECRET_ACCESS_KEY": "secret00"}, []string{"access_key_id: AKIACONFIG", "secret_access_key: secret00"}, "AKIACONFIG", false},
		"the environment":                {map[string]string{"AWS_ACCESS_KEY_ID": "AKIAENV", "AWS_SECRET_ACCESS_KEY": "secret00", "AWS_SHARED_CREDENTIALS_FILE": shared}, nil, "AKIAENV", false},
		"a shared file":                  {map[string]string{"AWS_SHARED_CREDENTIALS_FILE": shared}, nil, "AKIASHARED", false},
		"a profile in the environment":   {map[string]string{"AWS_SHARED_CREDENTIALS_FILE": shared, "AWS_PROFILE": "other"}, nil, "AKIAOTHER", false},
		"a profile in the configuration": {map[string]string{"AWS_SHARED_CREDENTIALS_FILE": shared}, []string{"profile: other"}, "AKIAOTHER", false},
		"a role": {map[string]string{"AWS_SHARED_CREDENTIALS_FILE": shared, "AWS_CONFIG_FILE": role, "AWS_ENDPOINT_URL_STS": servers.url + "/sts"},
			[]string{"profile: role"}, "AKIAROLE", true},
		"a web identity": {map[string]string{"AWS_ROLE_ARN": "arn:aws:iam::1:role/r", "AWS_WEB_IDENTITY_TOKEN_FILE": token, "AWS_ENDPOINT_URL_STS": servers.url + "/sts"}, nil, "AKIAWEB", true},
		"a container":    {map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": servers.url + "/container", "AWS_CONTAINER_AUTHORIZATION_TOKEN": "of the container"}, nil, "AKIACONTAINER", true},
		"an instance":    {map[string]string{"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://" + host.Host}, nil, "AKIAINSTANCE", true},
	} {
		t.Run(name, func(t *testing.T) {
			for _, variable := range os.Environ() { // nothing of this machine
				if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "AWS_") {
					t.Setenv(name, "")
					os.Unsetenv(name)
				}
			}
			t.Setenv("HOME", folder)
			t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
			for name, value := range test.environment {
				t.Setenv(name, value)
			}
			common := []string{"service: S3", "bucket: " + s3Name, "region: us-east-1", "endpoint: " + store.url, "force_path_style: true"}
			text := "main:\n  " + strings.Join(append(common, test.settings...), "\n  ")
			upload := func(key string) string {
				t.Helper()
				must(t, mainService(t, text).Upload(t.Context(), name+key, strings.NewReader("hello"), storage.UploadOptions{}))
				return *used.Load()
			}
			if got := upload("once"); !strings.HasPrefix(got, test.want) {
				t.Errorf("the access key is %s, want %s", got, test.want)
			}
			if !test.renewed {
				return
			}
			// Credentials that are about to expire are replaced before the next request.
			servers.expires = time.Second
			defer func() { servers.expires = time.Hour }()
			s := mainService(t, text)
			must(t, s.Upload(t.Context(), name+"twice", strings.NewReader("hello"), storage.UploadOptions{}))
			first := *used.Load()
			servers.expires = time.Hour
			time.Sleep(1100 * time.Millisecond)
			must(t, s.Upload(t.Context(), name+"thrice", strings.NewReader("hello"), storage.UploadOptions{}))
			if second := *used.Load(); second == first || !strings.HasPrefix(second, test.want) {
				t.Errorf("expired credentials %s were followed by %s", first, second)
			}
		})
	}
}

func mainService(t *testing.T, text string) *storage.Service {
	t.Helper()
	s, err := openStorage(t, text, storage.Options{}).Service("main")
	must(t, err)
	return s
}
