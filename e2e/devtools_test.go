package e2e

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tab is a page in a Chromium that the test drives: it presses keys, and asks what the
// page and its accessibility tree are. It speaks the DevTools protocol over a pipe. It is
// not safe for concurrent use.
type tab struct {
	*testing.T
	commands *os.File
	pipe     *os.File // of answers
	answers  *bufio.Reader
	session  string
	number   int
	patience time.Duration // of until
	// complaints are what the browser logged as errors: a script that failed, and what the
	// Content-Security-Policy refused.
	complaints []string
}

func (b browserCommand) open(t *testing.T, url string, width, height int) *tab {
	t.Helper()
	theirCommands, commands, err := os.Pipe()
	must(t, err)
	answers, theirAnswers, err := os.Pipe()
	must(t, err)
	cmd := exec.CommandContext(t.Context(), b.path, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server", "--hide-scrollbars",
		"--remote-debugging-pipe", "--user-data-dir="+b.profile)
	cmd.ExtraFiles = []*os.File{theirCommands, theirAnswers} // 3 and 4, as the flag wants
	var log bytes.Buffer
	cmd.Stderr = &log
	must(t, cmd.Start())
	theirCommands.Close()
	theirAnswers.Close()
	p := &tab{T: t, commands: commands, pipe: answers, answers: bufio.NewReaderSize(answers, 1<<20), patience: 2 * time.Minute}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		commands.Close()
		answers.Close()
		if t.Failed() {
			t.Logf("chromium: %.2000s", log.String())
		}
	})
	var target struct{ TargetID string }
	p.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	p.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	p.session = attached.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log", "Accessibility"} {
		p.call(domain+".enable", nil, nil)
	}
	p.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false}, nil)
	p.load(url)
	return p
}

func (p *tab) load(url string) {
	p.Helper()
	p.call("Page.navigate", map[string]any{"url": url}, nil)
	p.until("the page is there", fmt.Sprintf("document.readyState === 'complete' && location.href === %q", url))
}

// call sends a command and waits for its answer.
func (p *tab) call(method string, params, result any) {
	p.Helper()
	p.number++
	command := map[string]any{"id": p.number, "method": method}
	if params != nil {
		command["params"] = params
	}
	if p.session != "" {
		command["sessionId"] = p.session
	}
	raw, err := json.Marshal(command)
	must(p, err)
	must(p, p.pipe.SetReadDeadline(time.Now().Add(5*time.Minute)))
	_, err = p.commands.Write(append(raw, 0))
	must(p, err)
	for {
		raw, err := p.answers.ReadBytes(0)
		if err != nil {
			p.Fatalf("%s: %v", method, err)
		}
		var answer struct {
			ID     int
			Method string
			Params json.RawMessage
			Result json.RawMessage
			Error  *struct{ Message string }
		}
		must(p, json.Unmarshal(bytes.TrimSuffix(raw, []byte{0}), &answer))
		switch {
		case answer.ID == 0:
			p.noted(answer.Method, answer.Params)
		case answer.ID != p.number:
		case answer.Error != nil:
			p.Fatalf("%s: %s", method, answer.Error.Message)
		default:
			if result != nil {
				must(p, json.Unmarshal(answer.Result, result))
			}
			return
		}
	}
}

// noted keeps what the browser complains about. A server that does not answer is no fault
// of the page.
func (p *tab) noted(method string, params []byte) {
	isError := method == "Runtime.exceptionThrown" || method == "Log.entryAdded" && bytes.Contains(params, []byte(`"level":"error"`)) && !bytes.Contains(params, []byte(`"source":"network"`))
	if isError {
		p.complaints = append(p.complaints, string(params))
	}
}

// value evaluates an expression.
func (p *tab) value(expression string, into any) {
	p.Helper()
	var answer struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct{ Exception struct{ Description string } }
	}
	p.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}, &answer)
	if answer.ExceptionDetails != nil {
		p.Fatalf("%s: %s", expression, answer.ExceptionDetails.Exception.Description)
	}
	if into != nil {
		must(p, json.Unmarshal(answer.Result.Value, into))
	}
}

func (p *tab) text() (text string) {
	p.Helper()
	p.value("document.body.innerText", &text)
	return text
}

// until waits for an expression to be true.
func (p *tab) until(what, expression string) {
	p.Helper()
	for deadline := time.Now().Add(p.patience); ; time.Sleep(50 * time.Millisecond) {
		var is bool
		p.value("Boolean("+expression+")", &is)
		if is {
			return
		}
		if time.Now().After(deadline) {
			p.Fatalf("waited %s until %s; the page says:\n%s", p.patience, what, p.text())
		}
	}
}

// firstByte is how many milliseconds after the request the first byte of the page came.
func (p *tab) firstByte() (ms float64) {
	p.Helper()
	p.value(`(() => { const n = performance.getEntriesByType("navigation")[0]; return n.responseStart - n.requestStart })()`, &ms)
	return ms
}

// says waits until the page shows a text.
func (p *tab) says(text string) {
	p.Helper()
	p.until("it says "+text, fmt.Sprintf("document.body.innerText.includes(%q)", text))
}

// keyCodes are of the keys that a page is used with.
var keyCodes = map[string]int{"Tab": 9, "Enter": 13, "Escape": 27, " ": 32}

func (p *tab) press(key string) {
	p.Helper()
	text := map[string]string{"Enter": "\r", " ": " "}[key]
	down := map[string]any{"type": "keyDown", "key": key, "code": strings.ReplaceAll(key, " ", "Space"), "windowsVirtualKeyCode": keyCodes[key], "text": text}
	if text == "" {
		down["type"] = "rawKeyDown"
	}
	p.call("Input.dispatchKeyEvent", down, nil)
	p.call("Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": key, "code": down["code"], "windowsVirtualKeyCode": keyCodes[key]}, nil)
}

// tabTo presses the tabulator until an element with this name has the focus, which must
// be visible.
func (p *tab) tabTo(name string) {
	p.Helper()
	var met []string
	for range 80 {
		p.press("Tab")
		var focus struct {
			Name    string
			Visible bool
		}
		p.value(`(() => { const e = document.activeElement, s = getComputedStyle(e)
			return {Name: e.getAttribute("aria-label") || e.labels?.[0]?.textContent || e.textContent.trim(), Visible: s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2} })()`, &focus)
		if !focus.Visible && focus.Name != "" && len(focus.Name) < 200 {
			p.Errorf("the focus on %q is not visible", focus.Name)
		}
		if focus.Name == name {
			return
		}
		met = append(met, fmt.Sprintf("%.30q", focus.Name))
	}
	p.Fatalf("the tabulator does not reach %q, only %s", name, strings.Join(met, ", "))
}

// nodes are the elements that a screen reader knows, by role.
func (p *tab) nodes() map[string][]string {
	p.Helper()
	type value struct{ Value any }
	var tree struct {
		Nodes []struct {
			Ignored    bool
			Role, Name value
			Value      *value
		}
	}
	p.call("Accessibility.getFullAXTree", nil, &tree)
	byRole := make(map[string][]string)
	for _, n := range tree.Nodes {
		if role := fmt.Sprint(n.Role.Value); !n.Ignored {
			name := n.Name.Value
			if name == nil {
				name = ""
			}
			byRole[role] = append(byRole[role], fmt.Sprint(name))
		}
	}
	return byRole
}

// media sets a preference of the user, such as prefers-color-scheme.
func (p *tab) media(name, value string) {
	p.Helper()
	p.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": name, "value": value}}}, nil)
}

// picture keeps a picture of the page in the folder of the flag, if that is set.
func (p *tab) picture(name string) {
	p.Helper()
	if *pictures == "" {
		return
	}
	var shot struct{ Data string }
	p.call("Page.captureScreenshot", map[string]any{"format": "webp", "quality": 75}, &shot)
	raw, err := base64.StdEncoding.DecodeString(shot.Data)
	must(p, err)
	must(p, os.WriteFile(filepath.Join(*pictures, name+".webp"), raw, 0o644))
}
