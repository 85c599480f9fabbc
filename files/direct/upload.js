// Uploads a file in parts to a handler of the Go package files/direct. If the store takes parts
// from browsers, the file is encrypted here and goes straight to the store, and the server sees
// no byte of it. Otherwise its parts go through the server, which encrypts them.
//
//	import {upload} from "/upload.js"
//	const attached = await upload("/customers/7/license", input.files[0], {progress: (done, total) => {}})
//
// Options: headers of requests to the server, such as one against forged requests; signal, to
// cancel; progress; tries for each request; parallel, the number of parts at once, each of which
// takes up to twice its size of memory; begun, which is called with the plan of an upload
// through the server. That plan has no secret: kept somewhere and passed as resume, it lets a page
// that was loaded again send what is missing. An upload that is encrypted here cannot be
// resumed like that, because its key is nowhere else: it is a new one.
const chunkSize = 16384, tagSize = 16

export class UploadError extends Error {
	constructor(message, status) { super(message); this.status = status }
}

export async function upload(url, file, {headers = {}, signal, progress = () => {}, tries = 5, parallel = 2, begun, resume} = {}) {
	const server = {url, headers, signal, tries}
	const plan = resume ?? await begin(server, file)
	server.headers = {...headers, "Upload-Token": plan.token}
	if (plan.size !== file.size) throw new UploadError("another file")
	if (begun && !plan.key) begun({...plan})
	let waiting = []
	try {
		waiting = Array.from({length: plan.parts}, (_, i) => i + 1)
		if (resume) waiting = (await ask(server, "", {method: "GET"})).missing
		let done = file.size - waiting.reduce((sum, n) => sum + slice(plan, file, n).size, 0)
		progress(done, file.size)
		const worker = async () => {
			for (let n; (n = waiting.shift()) !== undefined;) {
				await (plan.key ? sealed(server, plan, file, n) : through(server, plan, file, n))
				progress(done += slice(plan, file, n).size, file.size)
			}
		}
		await Promise.all(Array.from({length: parallel}, worker))
		return await ask(server, "?finish", {method: "POST"})
	} catch (error) {
		waiting.length = 0 // for the other workers
		if (plan.key) fetch(url, {method: "DELETE", headers: server.headers, keepalive: true}).catch(() => {})
		throw error
	}
}

// The server makes the upload: its object, its key and the token for all that follows.
async function begin(server, file) {
	const body = JSON.stringify({name: file.name, type: file.type, size: file.size})
	const plan = await ask({...server, tries: 1}, "", {method: "POST", body, headers: {"Content-Type": "application/json"}})
	if (plan.key) {
		const raw = bytes(plan.key)
		plan.key = await crypto.subtle.importKey("raw", raw, "AES-GCM", false, ["encrypt"])
		raw.fill(0)
		plan.prefix = bytes(plan.prefix)
		plan.nonce = bytes(plan.nonce)
	}
	return plan
}

const bytes = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))

function slice(plan, file, n) {
	return file.slice((n - 1) * plan.partSize, Math.min(n * plan.partSize, file.size))
}

function through(server, plan, file, n) {
	return ask(server, "?part=" + n, {method: "PUT", body: slice(plan, file, n)})
}

// A part is encrypted once. What is sent again are the same bytes: others under the same nonce
// would reveal both. The server has promised itself their digest before they may go out.
async function sealed(server, plan, file, n) {
	const body = await seal(plan, file, n)
	const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", body))
	const sha256 = Array.from(digest, (b) => b.toString(16).padStart(2, "0")).join("")
	await again(server, async () => {
		const to = await ask({...server, tries: 1}, "?part=" + n, {
			method: "POST", body: JSON.stringify({sha256}), headers: {"Content-Type": "application/json"},
		})
		const answer = await fetch(to.url, {method: "PUT", body, headers: to.headers, signal: server.signal, credentials: "omit"})
		if (!answer.ok) throw new UploadError("the store refused part " + n + ": " + answer.status) // a new URL may help
	})
}

// seal encrypts a part in the format of spec/files.md section 3.
export async function seal(plan, file, n) {
	const plain = new Uint8Array(await slice(plan, file, n).arrayBuffer())
	const first = (n - 1) * plan.partSize / chunkSize, start = n === 1 ? plan.prefix.length : 0
	const chunks = Math.floor(plain.length / chunkSize) + (n === plan.parts ? 1 : 0) // the last one is never full
	const out = new Uint8Array(start + plain.length + chunks * tagSize)
	if (n === 1) out.set(plan.prefix)
	for (let i = 0, at = start; i < chunks; i++) {
		const iv = plan.nonce.slice(), low = new DataView(iv.buffer, 8)
		low.setUint32(0, low.getUint32(0) ^ first + i)
		const chunk = await crypto.subtle.encrypt({name: "AES-GCM", iv}, plan.key, plain.subarray(i * chunkSize, (i + 1) * chunkSize))
		out.set(new Uint8Array(chunk), at)
		at += chunk.byteLength
	}
	plain.fill(0)
	return out
}

// ask sends a request to the server and returns its answer.
function ask(server, query, {headers, ...request}) {
	return again(server, async () => {
		const answer = await fetch(server.url + query, {...request, signal: server.signal, headers: {...server.headers, ...headers}})
		if (!answer.ok) throw new UploadError((await answer.text()).trim() || answer.statusText, answer.status)
		return answer.status === 204 ? undefined : answer.json()
	})
}

// again repeats what may succeed the next time.
async function again({signal, tries}, action) {
	for (let n = 1; ; n++) {
		try {
			return await action()
		} catch (error) {
			const final = error.status && error.status !== 429 && error.status < 500
			if (final || n >= tries || signal?.aborted) throw error
			await new Promise((resolve) => setTimeout(resolve, Math.random() * 250 * 2 ** n))
		}
	}
}
