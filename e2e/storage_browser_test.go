package e2e

import (
	"bytes"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// storagePage uses examples/storage as a user does, in a frame: by its forms, links and buttons.
const storagePage = `<!doctype html><iframe id="app" width="1100" height="900"></iframe><script type="module">
const app = document.getElementById("app")
const text = new TextEncoder().encode("this can be read. ".repeat(1_200_000))
const loaded = () => new Promise((resolve) => app.addEventListener("load", resolve, {once: true}))
const page = () => app.contentDocument
const open = async (path) => { const done = loaded(); app.src = path; await done }
const picture = async () => {
	const canvas = Object.assign(document.createElement("canvas"), {width: 1600, height: 900})
	const context = canvas.getContext("2d")
	context.fillStyle = "rgb(255, 0, 255)"
	context.fillRect(0, 0, 1600, 900)
	return new Promise((resolve) => canvas.toBlob(resolve, "image/png"))
}
function choose(form, content, name, type) {
	const view = app.contentWindow, list = new view.DataTransfer()
	list.items.add(new view.File([content], name, {type}))
	form.querySelector("input").files = list.files
	form.querySelector(".send").click()
}
async function send(tenant, form, content, name, type) {
	await open("/" + tenant + "/")
	const done = loaded()
	choose(page().querySelector(form), content, name, type)
	await done
}
async function stop(tenant) {
	await open("/" + tenant + "/")
	const form = page().querySelector("form.sealed"), said = form.querySelector("output")
	const focused = new Promise((resolve) => form.querySelector(".stop").addEventListener("focus", resolve, {once: true}))
	choose(form, text, "stopped.txt", "text/plain")
	await focused
	form.querySelector(".stop").click()
	while (!said.value.startsWith("Stopped")) await new Promise((resolve) => setTimeout(resolve, 20))
	return page().activeElement.className
}
async function files(tenant) {
	await open("/" + tenant + "/")
	const found = []
	for (const li of page().querySelectorAll("ul > li")) {
		const link = li.querySelector("a.name"), shown = li.querySelector("img")
		if (shown) await shown.decode()
		const part = await fetch(link.href, {headers: {Range: "bytes=20000000-20000017"}})
		found.push({name: link.textContent, about: li.querySelector(".dim:not(.preview .dim)").textContent, width: shown ? shown.naturalWidth : 0, status: part.status,
			part: part.status === 206 ? await part.text() : ""})
	}
	return found.sort((a, b) => a.name < b.name ? -1 : 1)
}
// What a keyboard cannot reach, or a reader of the screen cannot name.
function unreachable() {
	return [...page().querySelectorAll("a, button, input")].filter((e) => e.checkVisibility()).filter((e) => {
		e.focus()
		return page().activeElement !== e || e.tabIndex < 0 || !(e.ariaLabel || e.textContent).trim()
	}).map((e) => e.outerHTML)
}
async function main() {
	const result = {files: {}}
	for (const tenant of ["acme", "globex"]) {
		await send(tenant, "form:not(.sealed)", text, "through.txt", "text/plain")
		await send(tenant, "form:not(.sealed)", await picture(), "picture.png", "image/png")
		await send(tenant, "form.sealed", text, "sealed.txt", "text/plain")
		await send(tenant, "form.sealed", await picture(), "small.png", "image/png")
		result.files[tenant] = await files(tenant)
	}
	result.unreachable = unreachable()
	result.focus = await stop("acme")
	await open("/acme/")
	page().querySelector("button[aria-label='Delete sealed.txt']").click()
	await loaded()
	result.left = (await files("acme")).map((f) => f.name)
	return result
}
main().catch((e) => ({error: String(e) + e.stack})).then((result) => fetch("/test/result", {method: "POST", body: JSON.stringify(result)}))
</script>`

// People use examples/storage in a browser, with its services in folders and in S3. There the
// browser encrypts.
func TestStorageInChromium(t *testing.T) {
	t.Parallel()
	browser := chromium(t)
	t.Run("folders", func(t *testing.T) {
		dir := t.TempDir()
		useStorage(t, browser, startExample(t, "storage", nil, "-dir", dir), func(service string) (objects [][]byte) {
			paths, err := filepath.Glob(filepath.Join(dir, service, "*"))
			must(t, err)
			deeper, err := filepath.Glob(filepath.Join(dir, service, "*", "*", "*"))
			must(t, err)
			for _, path := range append(paths, deeper...) {
				if raw, err := os.ReadFile(path); err == nil && !strings.Contains(path, "kms-store") { // not a folder
					objects = append(objects, raw)
				}
			}
			return objects
		})
	})
	for server, endpoint := range s3Endpoints(t) {
		t.Run(server, func(t *testing.T) {
			store := &browserStore{puts: make(map[string][][]byte), answers: make(map[int]int)}
			address := store.serve(t, endpoint)
			client := s3.New(s3.Options{Region: "us-east-1", BaseEndpoint: &endpoint, UsePathStyle: true, Credentials: credentials.NewStaticCredentialsProvider("id0000", "secret00", "")})
			_, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(s3Name)})
			must(t, err)
			env := []string{"STORAGE_ENDPOINT=" + address, "STORAGE_BUCKET=" + s3Name, "AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=id0000", "AWS_SECRET_ACCESS_KEY=secret00"}
			services, err := filepath.Abs(filepath.Join("..", "examples", "storage", "s3.yml"))
			must(t, err)
			useStorage(t, browser, startExample(t, "storage", env, "-dir", t.TempDir(), "-services", services), func(service string) (objects [][]byte) {
				list, err := client.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String(s3Name), Prefix: aws.String(service + "/")})
				must(t, err)
				for _, o := range list.Contents {
					if !strings.Contains(*o.Key, "kms-store") {
						out, err := client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(s3Name), Key: o.Key})
						must(t, err)
						raw, err := io.ReadAll(out.Body)
						must(t, err)
						objects = append(objects, raw)
					}
				}
				return objects
			})
			store.mu.Lock()
			defer store.mu.Unlock()
			if len(store.puts) < 8 { // of two files of three parts and two pictures
				t.Errorf("the browser sent %d parts to the store", len(store.puts))
			}
		})
	}
}

// useStorage shows the page of the program at an address. objects returns what a service stores.
func useStorage(t *testing.T, browser browserCommand, address string, objects func(service string) [][]byte) {
	t.Helper()
	to, err := url.Parse(address)
	must(t, err)
	program := &httputil.ReverseProxy{
		ErrorLog: log.New(io.Discard, "", 0), // the browser ends requests that it needs no more
		Rewrite:  func(r *httputil.ProxyRequest) { r.SetURL(to); r.Out.Host = r.In.Host },
	}
	type file struct {
		Name, About, Part string
		Width, Status     int
	}
	var result struct {
		Files       map[string][]file
		Unreachable []string
		Focus       string
		Left        []string
	}
	browser.report(t, storagePage, program, &result)
	for tenant, service := range map[string]string{"acme": "plain", "globex": "encrypted"} {
		part := strings.Repeat("this can be read. ", 2)[20_000_000%18:][:18]
		want := []file{
			{"picture.png", service, "", 1600, http.StatusRequestedRangeNotSatisfiable}, {"sealed.txt", "sealed", part, 0, http.StatusPartialContent},
			{"small.png", "sealed", "", 480, http.StatusRequestedRangeNotSatisfiable}, {"through.txt", service, part, 0, http.StatusPartialContent},
		}
		got := result.Files[tenant]
		if len(got) != len(want) {
			t.Fatalf("%s has %+v", tenant, got)
		}
		for i, f := range got {
			if !strings.Contains(f.About, "· "+want[i].About+" ·") {
				t.Errorf("%s: %s is said to be %q, want %s", tenant, f.Name, f.About, want[i].About)
			}
			if f.About = want[i].About; f != want[i] {
				t.Errorf("%s has %+v, want %+v", tenant, f, want[i])
			}
		}
	}
	if len(result.Unreachable) > 0 || result.Focus != "send" {
		t.Errorf("a keyboard does not reach %q, and is at %q after an upload was stopped", result.Unreachable, result.Focus)
	}
	if strings.Join(result.Left, " ") != "picture.png small.png through.txt" {
		t.Errorf("after one was deleted there are %q", result.Left)
	}
	for service, want := range map[string]bool{"plain": true, "encrypted": false, "sealed": false} {
		stored, readable := objects(service), false
		for _, raw := range stored {
			readable = readable || bytes.Contains(raw, []byte("this can be read")) || bytes.Contains(raw, []byte("\x89PNG"))
		}
		if len(stored) < 2 || readable != want {
			t.Errorf("%s stores %d objects, readable: %t", service, len(stored), readable)
		}
	}
}
