package e2e

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/http"
	"sync"
	"testing"

	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"

	"github.com/kmsencrypted/kmsencrypted/files/gocloud"
	"github.com/kmsencrypted/kmsencrypted/files/serve"
	"github.com/kmsencrypted/kmsencrypted/kmstest"
)

// Every second of the recording has a loudness of its own, by which what plays is
// told from all other seconds.
const (
	recordedSeconds = 120
	recordedRate    = 48_000
	recordingHeader = 44
)

// recording is a WAV file of 11 MiB: mono, 16 bits, a square wave of 500 Hz.
func recording() []byte {
	const size = recordedSeconds * recordedRate * 2
	out := append(make([]byte, 0, recordingHeader+size), "RIFF"...)
	out = binary.LittleEndian.AppendUint32(out, recordingHeader-8+size)
	out = append(out, "WAVEfmt "...)
	for _, field := range []any{uint32(16), uint16(1), uint16(1), uint32(recordedRate), uint32(2 * recordedRate), uint16(2), uint16(16)} {
		out, _ = binary.Append(out, binary.LittleEndian, field)
	}
	out = append(out, "data"...)
	out = binary.LittleEndian.AppendUint32(out, size)
	for i := range recordedSeconds * recordedRate {
		level := loudness(i / recordedRate)
		if i/(recordedRate/1000)%2 == 1 {
			level = -level
		}
		out = binary.LittleEndian.AppendUint16(out, uint16(int16(level*math.MaxInt16)))
	}
	return out
}

func loudness(second int) float64 { return float64(second+1) / (recordedSeconds + 8) }

const mediaPage = `<!doctype html><video id="v" preload="metadata" src="/files/recording.wav"></video><script>
const v = document.getElementById("v")
const once = (name) => new Promise((resolve, reject) => {
	v.addEventListener(name, resolve, {once: true})
	v.addEventListener("error", () => reject(new Error(name + ": " + v.error.message)), {once: true})
})
async function seek(to, analyser) {
	const seeked = once("seeked")
	v.currentTime = to
	await seeked
	const at = v.currentTime
	await v.play()
	while (v.currentTime < to + 0.3) await new Promise((resolve) => setTimeout(resolve, 10))
	const samples = new Float32Array(analyser.fftSize)
	analyser.getFloatTimeDomainData(samples)
	const played = v.currentTime
	v.pause()
	return {at, played, loudness: samples.map(Math.abs).sort()[samples.length / 2]}
}
async function main() {
	if (v.readyState < 1) await once("loadedmetadata")
	const audio = new AudioContext(), analyser = audio.createAnalyser()
	audio.createMediaElementSource(v).connect(analyser)
	analyser.connect(audio.destination)
	const seeks = []
	for (const to of [100, 20, 115, 60]) seeks.push(await seek(to, analyser))
	return {duration: v.duration, seeks}
}
main().catch((e) => ({error: String(e)})).then((result) => fetch("/test/result", {method: "POST", body: JSON.stringify(result)}))
</script>`

// A video element seeks in an encrypted file: the browser asks for the bytes at that
// time, and what plays is what was recorded there.
func TestSeekingInChromium(t *testing.T) {
	t.Parallel()
	browser := chromium(t)
	bucket := gocloud.New(memblob.OpenBucket(nil), "test", kmstest.Box(t), gocloud.Options{})
	if err := bucket.Blob().WriteAll(t.Context(), "recording.wav", recording(), &blob.WriterOptions{ContentType: "audio/wav"}); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var starts []int64 // of the ranges that were asked for
	files := serve.Handler(func(r *http.Request) (string, error) { return r.PathValue("key"), nil }, bucket.Open, serve.Options{})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /files/{key}", func(w http.ResponseWriter, r *http.Request) {
		var start int64
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &start); err == nil {
			mu.Lock()
			starts = append(starts, start)
			mu.Unlock()
		}
		files.ServeHTTP(w, r)
	})
	var result struct {
		Duration float64
		Seeks    []struct{ At, Played, Loudness float64 }
	}
	raw := browser.report(t, mediaPage, mux, &result)
	wanted := []float64{100, 20, 115, 60}
	if result.Duration != recordedSeconds || len(result.Seeks) != len(wanted) {
		t.Fatalf("the page reports %s", raw)
	}
	for i, seek := range result.Seeks {
		// A busy machine may play on for a while before it listens.
		least, most := loudness(int(wanted[i])), loudness(int(seek.Played))
		if seek.At != wanted[i] || seek.Played > wanted[i]+5 || seek.Loudness < least-0.003 || seek.Loudness > most+0.003 {
			t.Errorf("seek to %v: at %v, then at %v with a loudness of %.4f, want %.4f to %.4f", wanted[i], seek.At, seek.Played, seek.Loudness, least, most)
		}
	}
	// To seek to second 100, the browser requested a range near it.
	mu.Lock()
	defer mu.Unlock()
	const there = recordingHeader + 100*recordedRate*2
	near := false
	for _, start := range starts {
		near = near || start > there-(2<<20) && start <= there
	}
	if !near {
		t.Errorf("ranges that begin at %v were asked for, none near %d", starts, there)
	}
	t.Logf("ranges began at %v", starts)
}
