package e2e

import (
	"fmt"
	"image/color"
	"io"
	"log"
	"math"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
)

// videoPage makes a video of 64 seconds and 13 MiB: a picture a second, whose six
// stripes are the bits of the second, each followed by noise that players skip. It
// uploads the video to the example and plays it from there.
const videoPage = `<!doctype html><video id="v" muted preload="metadata"></video><img id="i"><script>
const seconds = 64, stripes = 6, stripe = 16, width = stripes * stripe, height = 48, noise = 200 << 10, v = document.getElementById("v")

async function frames() {
	const canvas = new OffscreenCanvas(width, height), g = canvas.getContext("2d"), out = []
	const encoder = new VideoEncoder({
		output: (chunk) => { const raw = new Uint8Array(chunk.byteLength); chunk.copyTo(raw); out.push(raw) },
		error: (e) => { throw e },
	})
	encoder.configure({codec: "vp8", width, height, bitrate: 1e6, framerate: 1})
	for (let s = 0; s < seconds; s++) {
		for (let i = 0; i < stripes; i++) {
			g.fillStyle = s >> i & 1 ? "white" : "black"
			g.fillRect(i * stripe, 0, stripe, height)
		}
		const frame = new VideoFrame(canvas, {timestamp: s * 1e6, duration: 1e6})
		encoder.encode(frame, {keyFrame: true})
		frame.close()
	}
	await encoder.flush()
	return out
}

// A WebM file is a tree of elements: id, length of 8 bytes, content.
const join = (parts) => {
	const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0))
	parts.reduce((at, p) => { out.set(p, at); return at + p.length }, 0)
	return out
}
const number = (n, size) => { const out = new Uint8Array(size); for (let i = size; i-- > 0; n = Math.floor(n / 256)) out[i] = n % 256; return out }
const element = (id, ...parts) => {
	const content = join(parts), length = number(content.length, 8), name = []
	for (let n = id; n > 0; n = Math.floor(n / 256)) name.unshift(n % 256)
	length[0] = 1
	return join([name, length, content])
}
const uint = (id, n) => element(id, number(n, 8))
const text = (id, s) => element(id, new TextEncoder().encode(s))
const float = (id, n) => { const raw = new Uint8Array(8); new DataView(raw.buffer).setFloat64(0, n); return element(id, raw) }

function webm(frames) {
	const random = new Uint8Array(noise)
	for (let i = 0; i < noise; i += 65536) crypto.getRandomValues(random.subarray(i, i + 65536))
	const clusters = frames.map((frame, s) => element(0x1F43B675, uint(0xE7, 1000 * s),
		element(0xA3, [0x81, 0, 0, 0x80], frame), element(0xEC, random)))
	const info = element(0x1549A966, uint(0x2AD7B1, 1e6), float(0x4489, 1000 * seconds), text(0x4D80, "test"), text(0x5741, "test"))
	const tracks = element(0x1654AE6B, element(0xAE, uint(0xD7, 1), uint(0x73C5, 1), uint(0x83, 1), text(0x86, "V_VP8"),
		element(0xE0, uint(0xB0, width), uint(0xBA, height))))
	const cues = (first) => element(0x1C53BB6B, ...clusters.map((c, s) => {
		const at = first
		first += c.length
		return element(0xBB, uint(0xB3, 1000 * s), element(0xB7, uint(0xF7, 1), uint(0xF1, at)))
	}))
	const before = info.length + tracks.length
	const header = element(0x1A45DFA3, uint(0x4286, 1), uint(0x42F7, 1), uint(0x42F2, 4), uint(0x42F3, 8), text(0x4282, "webm"), uint(0x4287, 4), uint(0x4285, 2))
	return new Blob([header, element(0x18538067, info, tracks, cues(before + cues(0).length), ...clusters)], {type: "video/webm"})
}

const once = (what, name) => new Promise((resolve, reject) => {
	what.addEventListener(name, resolve, {once: true})
	what.addEventListener("error", () => reject(new Error(name + ": " + (what.error ? what.error.message : ""))), {once: true})
})
async function seek(to) {
	const seeked = once(v, "seeked")
	v.currentTime = to
	await seeked
	const canvas = new OffscreenCanvas(width, height), g = canvas.getContext("2d")
	g.drawImage(v, 0, 0)
	let second = 0
	for (let i = 0; i < stripes; i++) if (g.getImageData((i + 0.5) * stripe, height / 2, 1, 1).data[0] > 127) second |= 1 << i
	return {at: v.currentTime, second}
}
async function main() {
	const page = await (await fetch("/")).text(), picture = document.getElementById("i"), shown = once(picture, "load")
	picture.src = page.match(/<img src="([^"]+)/)[1]
	await shown
	const video = webm(await frames()), form = new FormData()
	form.append("file", video, "clip.webm")
	const stored = await fetch("/documents", {method: "POST", body: form})
	if (!stored.ok) throw new Error("upload: " + stored.status)
	const address = (await stored.text()).match(/<video[^>]* src="([^"]+)/)[1], loaded = once(v, "loadeddata")
	v.src = address
	await loaded
	const seeks = []
	for (const to of [50.5, 10.5, 60.5, 30.5]) seeks.push({to, ...await seek(to)})
	await v.play()
	while (v.currentTime < 31.2) await new Promise((resolve) => setTimeout(resolve, 20))
	return {size: video.size, duration: v.duration, width: v.videoWidth, height: v.videoHeight, seeks, played: v.currentTime,
		picture: [picture.naturalWidth, picture.naturalHeight], type: (await fetch(address, {method: "HEAD"})).headers.get("Content-Type")}
}
main().catch((e) => ({error: String(e)})).then((result) => fetch("/test/result", {method: "POST", body: JSON.stringify(result)}))
</script>`

// A video is uploaded to examples/files. A video element seeks in it: it gets ranges
// from the middle of the file, and shows the picture of that time.
func TestVideoInChromium(t *testing.T) {
	t.Parallel()
	browser := chromium(t)
	address := startFilesExample(t)
	uploadDocument(t, address, "cat.png", "image/png", solid(t, color.RGBA{R: 255, B: 255, A: 255}))
	example, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	type part struct{ First, Last, Size int64 }
	var mu sync.Mutex
	var parts []part // of the video, that the example answered with
	proxy := httputil.NewSingleHostReverseProxy(example)
	proxy.ErrorLog = log.New(io.Discard, "", 0) // the browser ends requests that it needs no more
	proxy.ModifyResponse = func(r *http.Response) error {
		var p part
		if _, err := fmt.Sscanf(r.Header.Get("Content-Range"), "bytes %d-%d/%d", &p.First, &p.Last, &p.Size); err == nil && r.StatusCode == http.StatusPartialContent {
			mu.Lock()
			parts = append(parts, p)
			mu.Unlock()
		}
		return nil
	}
	var result struct {
		Type                            string
		Size                            int64
		Duration, Played, Width, Height float64
		Picture                         []int
		Seeks                           []struct{ To, At, Second float64 }
	}
	raw := browser.report(t, videoPage, proxy, &result)
	if result.Type != "video/webm" || result.Duration != 64 || result.Width != 96 || result.Height != 48 || len(result.Seeks) != 4 || result.Played < 31.2 {
		t.Errorf("the page reports %s", raw)
	}
	if fmt.Sprint(result.Picture) != "[200 200]" {
		t.Errorf("the picture is %v, want 200 times 200", result.Picture)
	}
	mu.Lock()
	defer mu.Unlock()
	for _, s := range result.Seeks {
		if s.At != s.To || s.Second != math.Floor(s.To) {
			t.Errorf("seek to %v: at %v, with the picture of second %v", s.To, s.At, s.Second)
		}
	}
	// To seek to second 50 at first, the browser needs the bytes there.
	there, near := result.Size*50/64, false
	for _, p := range parts {
		near = near || p.First > there-(2<<20) && p.First <= there && p.Last >= there && p.Size == result.Size
	}
	if !near {
		t.Errorf("answered with the parts %v, none near byte %d", parts, there)
	}
	t.Logf("a video of %d bytes, answered with %v; %s", result.Size, parts, raw)
}
