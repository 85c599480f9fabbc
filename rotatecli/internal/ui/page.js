// The script of the page: it asks for each section from time to time and shows it. Text
// only becomes text, never HTML.

const sections = [
	{name: "runs", every: 1000, show: showRuns},
	{name: "versions", every: 1000, show: showVersions},
	{name: "keys", every: 2000, show: showKeys},
	{name: "branches", every: 10000, show: showBranches},
	{name: "inventory", every: 3000, show: showInventory},
	{name: "history", every: 5000, show: showHistory},
]
const $ = (id) => document.getElementById(id)
const still = matchMedia("(prefers-reduced-motion: reduce)")
let token = "", control = false, program = ""

// Elements

// el makes an element. Properties that begin with "aria-", "data-" or are not the
// element's own become attributes; children are elements and texts.
function el(tag, properties, ...children) {
	const e = document.createElement(tag)
	for (const [name, value] of Object.entries(properties || {})) {
		if (name in e) e[name] = value
		else e.setAttribute(name, value)
	}
	e.append(...children.flat().filter((c) => c || c === 0))
	return e
}

// put replaces the children of an element if they have changed, so that nobody who reads
// there loses the place.
function put(parent, ...children) {
	const next = el("div", {}, ...children)
	if (parent.shown !== next.innerHTML) {
		parent.shown = next.innerHTML
		parent.replaceChildren(...next.childNodes)
	}
}

// text sets the text of an element if it has changed.
function text(e, value) {
	if (e.textContent !== value) e.textContent = value
}

// prose makes commands of what is in backquotes.
const prose = (words) => words.split("`").map((part, i) => i % 2 ? el("code", {}, program + " " + part) : part)

function table(caption, head, rows) {
	return el("div", {className: "scroll", tabIndex: 0, role: "group", "aria-label": caption.replaceAll("`", "")}, el("table", {}, el("caption", {}, prose(caption)),
		el("thead", {}, el("tr", {}, head.map((h) => el("th", {scope: "col"}, h)))),
		el("tbody", {}, rows.map(([first, ...rest]) => el("tr", {}, el("th", {scope: "row"}, first), rest)))))
}
const cell = (content, className) => el("td", {className: className || ""}, ...[content].flat())

// Numbers and times

const number = (n) => Math.round(n).toLocaleString("en")
const things = (n, noun) => number(n) + " " + noun + (n === 1 ? "" : "s")
const about = (is) => is ? "about " : ""
const time = (at) => at ? new Date(at).toLocaleString([], {dateStyle: "medium", timeStyle: "medium"}) : "–"
const clock = (at) => new Date(at).toLocaleTimeString()
const percent = (part, all) => all > 0 ? Math.round(100 * part / all) + " %" : "–"

// say tells users of a screen reader what has happened, and everybody else too.
function say(message) { $("said").textContent = message }

// Requests

async function request(path, method) {
	const headers = {}
	if (token) headers.Authorization = "Bearer " + token
	if (method === "POST") headers["Kmsencrypted-Ui"] = "1"
	const answer = await fetch("api/" + path, {method: method || "GET", headers, cache: "no-store", signal: AbortSignal.timeout(15000)})
	return {status: answer.status, ok: answer.ok, body: await answer.json()}
}

async function act(path, done) {
	try {
		const {body} = await request(path, "POST")
		say(body.text)
	} catch {
		say("The program does not answer: nothing is known to have changed.")
	}
	if (done) done()
}

// follow asks for a section again and again.
async function follow(section) {
	for (;;) {
		if (!document.hidden) await refresh(section)
		await new Promise((resolve) => {
			section.wake = resolve
			setTimeout(resolve, section.known ? section.every : 300)
		})
	}
}

async function refresh(section) {
	const body = $(section.name).querySelector(".body")
	try {
		const {ok, body: answer} = await request(section.name)
		connected(ok ? "" : answer.text)
		if (!ok) return
		if (answer.problem) problem(body, answer)
		else body.parentNode.querySelector(":scope > .problem")?.remove()
		section.known = Boolean(answer.at)
		if (section.known) section.show(answer.data, body)
	} catch (error) {
		connected(["TypeError", "TimeoutError", "AbortError", "SyntaxError"].includes(error.name)
			? "The program behind this page does not answer. What is shown may be old." : "This page has an error: " + error.message)
	}
}

// problem says above a section what is wrong, and from when what is shown below is.
function problem(body, answer) {
	let p = body.parentNode.querySelector(":scope > .problem")
	if (!p) body.before(p = el("p", {className: "problem"}))
	const shown = answer.problem + (answer.at ? ". What is shown is of " + clock(answer.at) + "." : ".")
	if (p.said !== answer.problem) say(answer.problem)
	p.said = answer.problem
	text(p, shown)
}

let wasConnected
function connected(trouble) {
	text($("connection"), trouble || "Connected, and kept up to date.")
	$("connection").className = trouble ? "problem" : "dim"
	if (trouble && trouble !== wasConnected) say(trouble)
	if (!trouble && wasConnected) say("Connected again.")
	wasConnected = trouble
}

// Runs

const runs = new Map() // of tables, what is shown of each

function showRuns(list, body) {
	if (runs.size === 0) body.replaceChildren()
	for (const run of list) {
		let shown = runs.get(run.table)
		if (!shown) {
			runs.set(run.table, shown = newRun(run.table))
			body.append(shown.article)
		}
		showRun(shown, run)
	}
	const busy = list.find((r) => r.active && r.planned > 0)
	document.title = (busy ? percent(busy.written + busy.failed, busy.planned) + " of " + busy.table + " – " : "") + "Encrypted columns"
}

const actions = [
	{name: "pause", label: "Pause", when: (r) => r.active},
	{name: "resume", label: "Resume", when: (r) => r.paused},
	{name: "cancel", label: "Cancel", when: (r) => r.active || r.paused},
]

// newRun makes the parts of a table's run. They stay, and only their texts change, so the
// focus stays too.
function newRun(name) {
	const s = {
		title: el("h3", {}, name), state: el("span", {className: "state"}), bar: el("progress", {"aria-label": "Progress of " + name}),
		facts: el("dl"), notes: el("div"), failures: el("div"), chart: newChart(name), buttons: {},
	}
	for (const a of actions) {
		s.buttons[a.name] = el("button", {type: "button", hidden: true, "aria-label": a.label + " the run of " + name}, a.label)
		s.buttons[a.name].addEventListener("click", () => pressed(s, a))
	}
	s.article = el("article", {"aria-label": "Run of " + name}, el("div", {className: "head"}, s.title, s.state, el("span", {className: "buttons"}, Object.values(s.buttons))),
		s.bar, s.facts, s.notes, s.failures, s.chart.figure)
	return s
}

async function pressed(shown, action) {
	const {table, run} = shown.run
	if (action.name === "cancel" && !await isSure(table)) return
	await act("runs/" + [table, run, action.name].map(encodeURIComponent).join("/"))
	await refresh(sections[0])
}

function isSure(table) {
	text($("sure-text"), "Cancel the run of " + table + "? It ends for good, so that another one can begin. What was written stays. To stop it for a while, pause it instead.")
	$("sure").showModal()
	return new Promise((resolve) => {
		// Not by the event "close", which may come when the question is asked again already.
		const asked = new AbortController()
		const answer = (yes) => {
			asked.abort()
			resolve(yes)
		}
		$("sure").addEventListener("submit", (event) => answer(event.submitter.value === "yes"), {signal: asked.signal})
		$("sure").addEventListener("cancel", () => answer(false), {signal: asked.signal})
	})
}

function showRun(s, r) {
	const before = s.run
	s.run = r
	text(s.state, stateOf(r))
	const unfinished = r.active || r.paused, done = r.written + r.failed
	s.bar.hidden = !unfinished || r.planned === 0
	s.bar.max = Math.max(r.planned, done, 1)
	s.bar.value = done
	s.bar.setAttribute("aria-valuetext", percent(done, Math.max(r.planned, done)))
	put(s.facts, factsOf(r).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))))
	put(s.notes, r.problem && el("p", {className: "problem"}, r.problem), r.waiting && el("p", {}, "It waits: " + r.waiting + "."), r.advice && el("p", {}, prose(r.advice)))
	put(s.failures, r.failures.length > 0 && table("Failed in the last pass; `rotate status --failures` names the records", ["Reason", "Records", "Remedy"],
		r.failures.map((f) => [f.class, cell(number(f.records), "number"), cell(prose(f.remedy))])) || "")
	showButtons(s, r)
	showChart(s.chart, r)
	announce(before, r, done)
}

// showButtons moves the focus from a button that goes to one that takes its place.
function showButtons(s, r) {
	const all = Object.values(s.buttons), focused = all.find((b) => b === document.activeElement)
	for (const a of actions) s.buttons[a.name].hidden = !control || !a.when(r)
	if (focused?.hidden) (all.find((b) => !b.hidden) || $("runs")).focus()
}

function announce(before, r, done) {
	if (!before) return
	const tenth = (x) => Math.floor(10 * (x.written + x.failed) / Math.max(x.planned, 1))
	if (before.state !== r.state || before.run !== r.run) say(r.table + ": " + stateOf(r))
	else if (r.active && tenth(before) < tenth(r)) say(r.table + ": " + percent(done, r.planned))
	else if (before.failed < r.failed) say(r.table + ": " + things(r.failed, "record") + " failed")
}

function stateOf(r) {
	if (!r.run) return r.state
	return r.kind + " to " + r.to + (r.part ? ", of a part of the table" : "") + ": " + r.state + (r.pass > 1 ? ", pass " + r.pass : "")
}

// toGo is older than the rest where a large table is counted.
function toGo(r) {
	if (!r.counted) return "counting"
	const left = r.remaining > 0 ? about(r.about) + things(r.remaining, "key") + " to " + r.current : r.about ? "none in a sample" : "none"
	return left + (r.run ? ", counted at " + clock(r.counted) : "")
}

function factsOf(r) {
	const unfinished = r.active || r.paused, facts = []
	if (!unfinished || !r.planned) facts.push(["To go", toGo(r)])
	if (!r.run) return facts
	if (unfinished) facts.push(["Done", percent(r.written + r.failed, r.planned)])
	facts.push(["Written", number(r.written) + (unfinished && r.planned ? " of " + number(r.planned) : "")], ["Failed", number(r.failed)])
	if (r.conflicts) facts.push(["Conflicts", number(r.conflicts)])
	facts.push(["Calls to the key service", number(r.calls)])
	if (r.cost) facts.push(["Cost so far", r.cost])
	if (unfinished) facts.push(["At work", things(r.working, "worker")], ["Shards", r.shards_done + " of " + r.shards])
	if (r.active && r.working > 0 && r.per_second > 0) facts.push(["Rate", number(r.per_second) + " rows/s"])
	if (r.left) facts.push(["Left", "about " + r.left])
	facts.push(["Started", time(r.started)])
	if (r.ended) facts.push(["Ended", time(r.ended)])
	if (r.verified) facts.push(["Verified", time(r.verified)])
	return facts
}

// Chart

const stages = [["read", "Reading"], ["keys", "Key service and sealing"], ["wait", "Waiting for a limit"], ["write", "Writing"]]
const svg = (tag) => document.createElementNS("http://www.w3.org/2000/svg", tag)

function newChart(name) {
	const c = {image: svg("svg"), shares: el("div"), drawn: 0}
	c.image.setAttribute("viewBox", "0 0 300 100")
	c.image.setAttribute("preserveAspectRatio", "none")
	c.image.setAttribute("role", "img")
	for (const [stage] of stages) {
		const p = svg("polygon")
		p.setAttribute("class", stage)
		c.image.append(p)
	}
	c.caption = el("figcaption")
	c.top = el("span")
	c.from = el("span")
	c.to = el("span")
	const plot = el("div", {className: "plot"}, c.top, c.image, el("p", {className: "axis"}, c.from, c.to))
	c.figure = el("figure", {hidden: true}, c.caption, plot, c.shares)
	return c
}

function showChart(c, r) {
	const sum = (spent) => stages.reduce((all, [stage]) => all + spent[stage], 0)
	c.figure.hidden = sum(r.whole) === 0
	// Who asked for less motion gets a picture every ten seconds.
	if (c.figure.hidden || still.matches && Date.now() - c.drawn < 10000) return
	c.drawn = Date.now()
	const share = (spent) => stages.map(([stage, label]) => label.toLowerCase() + " " + percent(spent[stage], sum(spent))).join(", ")
	const {lasts, top} = draw(c.image, r.points)
	text(c.caption, "Where the time of " + r.table + " goes: seconds of all workers in a second")
	text(c.top, top.toFixed(1) + " s/s")
	const unfinished = r.active || r.paused
	text(c.from, (lasts < 300 ? things(lasts, "second") : "5 minutes") + (unfinished ? " ago" : " before"))
	text(c.to, unfinished ? "now" : "the end")
	c.image.setAttribute("aria-label", r.points.length > 0 ? "Lately: " + share(r.lately) + "." : "Nothing was seen at work yet.")
	put(c.shares, table("Share of the time", ["", "Lately", "Whole run"], stages.map(([stage, label]) =>
		[el("span", {}, el("i", {className: stage, "aria-hidden": "true"}), label), cell(percent(r.lately[stage], sum(r.lately)), "number"), cell(percent(r.whole[stage], sum(r.whole)), "number")])))
}

// draw stacks the stages over time, and returns how many seconds that is and the value at
// the top. A second that four workers wrote in counts four.
function draw(image, points) {
	const end = points.length > 0 ? Date.parse(points[points.length - 1].at) : 0
	const window = Math.min(300, Math.max(30, Math.round(points.length > 0 ? (end - Date.parse(points[0].at)) / 1000 : 0)))
	const shown = points.map((p) => ({x: window - (end - Date.parse(p.at)) / 1000, p})).filter(({x}) => x >= 0)
	const top = Math.max(1, ...shown.map(({p}) => stages.reduce((all, [stage]) => all + p[stage], 0)))
	let below = shown.map(() => 0)
	stages.forEach(([stage], i) => {
		const above = shown.map(({p}, k) => below[k] + p[stage])
		const corner = (heights) => (k) => (300 * shown[k].x / window).toFixed(1) + "," + (100 - 100 * heights[k] / top).toFixed(1)
		const order = shown.map((_, k) => k)
		image.children[i].setAttribute("points", [...order.map(corner(above)), ...order.reverse().map(corner(below))].join(" "))
		below = above
	})
	return {lasts: window, top}
}

// The other sections

function showVersions(v, body) {
	const verdict = (r) => r.may ? el("span", {className: "good"}, "may be retired, as far as the tables tell")
		: r.waits ? "not known until the records are counted" : el("span", {}, "is still needed. ", r.needs.join("; "))
	put(body, table("Versions of every table", ["Table", "Version", "Keys", "Counted", "Format", "Key"], v.lines.map((l) => [
		l.table, cell(l.no_key ? "no key" : "v" + l.version + (l.current ? " (current)" : "")),
		cell(l.counted ? about(l.about) + number(l.keys) : "counting", "number"), cell(l.counted ? clock(l.counted) : ""), cell(l.format), cell(l.problem || l.key_id || (l.no_key ? "" : "chosen for each record"), "id")])),
	el("h3", {}, "May a version be retired?"),
	v.retire.length > 0 ? el("ul", {}, v.retire.map((r) => el("li", {}, "Version " + r.version + " ", verdict(r), "."))) : el("p", {}, "There is one version only."),
	v.retire.some((r) => r.may) && el("div", {}, el("p", {}, "Check yourself what no count shows:"), el("ul", {}, v.unseen.map((u) => el("li", {}, u)))))
}

const marks = {works: ["✓", "good", "works"], fails: ["✗", "bad", "fails"], unknown: ["–", "", "not known"]}

function showKeys(k, body) {
	$("examine").hidden = !control
	$("examine").setAttribute("aria-disabled", String(k.examining))
	text($("examine"), k.examining ? "Examining" : "Examine now")
	const found = (o) => {
		const [mark, className, spoken] = marks[o.mark]
		return el("li", {className: o.depth ? "under" : ""}, el("span", {className, role: "img", "aria-label": spoken}, mark), " ", o.text,
			o.class && ": " + o.class, o.millis ? el("span", {className: "dim"}, " " + (o.millis < 10 ? o.millis.toFixed(1) : number(o.millis)) + " ms") : "")
	}
	put(body, k.examined && el("p", {className: "dim"}, "Examined " + time(k.examined)),
		k.keys.map((key) => el("article", {"aria-label": key.name}, el("h3", {}, key.name),
			key.known ? el("ul", {className: "found"}, key.found.map(found)) : el("p", {className: "dim"}, k.examining ? "Is examined now" : "Not examined yet"), key.remedy && el("p", {}, prose(key.remedy)))))
	if (k.examined && showKeys.examined !== undefined && showKeys.examined !== k.examined) say("The key services were examined: " + (k.keys.every((key) => key.healthy) ? "all can encrypt." : "not all are in order."))
	showKeys.examined = k.examined || ""
}

function showBranches(list, body) {
	put(body, list.length === 0 ? el("p", {}, "No version has branch keys for all records.") : table("Key stores", ["Store", "Branches", "Erased", "Closed and not erased", "Limits"], list.map((s) => [
		s.id, cell(s.problem || (s.more ? "at least " : "") + number(s.branches), s.problem ? "" : "number"), cell(number(s.erased), "number"), cell(number(s.overdue), "number"), cell(s.bounds)])))
}

function showInventory(list, body) {
	put(body, table("What is encrypted, under which key, and what it leaks", ["Table", "Column", "Kind", "Under", "Form", "Records", "Rotated", "Verified", "Leaks"],
		list.map((l) => [l.table, cell(l.column), cell(l.kind), cell(l.under), cell(l.form), cell(l.records, "id"), cell(l.rotated), cell(l.verified), cell(l.leaks)])))
}

function showHistory(list, body) {
	put(body, list.length === 0 ? el("p", {}, "No run yet.") : table("Earlier runs", ["Table", "Started", "What", "State", "Written", "Failed", "Calls", "Took", "Verified"], list.map((r) => [
		r.table, cell(time(r.started)), cell(r.kind + " to v" + r.target + (r.part ? ", of a part" : "")), cell(r.state),
		cell(number(r.written), "number"), cell(number(r.failed), "number"), cell(number(r.calls), "number"), cell(r.took), cell(time(r.verified))])))
}

// Access

async function learnAccess() {
	try {
		const {ok, body} = await request("about")
		control = ok && body.control
		$("token").hidden = control || ok && !body.token
		text($("access"), control ? "Runs may be paused, resumed and cancelled here, and key services examined."
			: ok && !body.token ? "This page is read-only: it was started without a token." : "This page is read-only without the token.")
		if (ok) text($("name"), "in " + (program = body.name))
		text($("examine-help"), (control ? "" : "With the token, the key services can be examined here. ") + "An examination wraps 32 random bytes under each key and unwraps them again, as the command doctor does.")
	} catch {
		setTimeout(learnAccess, 2000)
	}
	return control
}

$("token").addEventListener("submit", async (event) => {
	event.preventDefault()
	token = $("token-field").value.trim()
	$("token-field").value = ""
	const may = await learnAccess()
	say(may ? "The token is right: runs may be paused, resumed and cancelled." : "The token is wrong.")
	if (may) $("runs").focus()
	else token = ""
	for (const section of sections) section.wake?.()
})
$("examine").addEventListener("click", () => {
	if ($("examine").getAttribute("aria-disabled") !== "true") act("examine", () => refresh(sections[2]))
})
document.addEventListener("visibilitychange", () => { for (const section of sections) section.wake?.() })

await learnAccess()
sections.forEach(follow)
