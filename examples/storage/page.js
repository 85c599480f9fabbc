import {upload} from "/upload.js"

const form = document.querySelector("form.sealed")
const [choice, send, stop, bar, said] = ["input", "button.send", "button.stop", "progress", "output"].map((is) => form.querySelector(is))
let uploading

form.addEventListener("submit", async (event) => {
	event.preventDefault()
	uploading = new AbortController()
	send.disabled = true
	stop.hidden = bar.hidden = false
	stop.focus()
	try {
		const attached = await upload(form.action, choice.files[0], {signal: uploading.signal, progress: (done, total) => {
			bar.max = Math.max(total, 1)
			bar.value = done
			said.value = Math.floor(100 * done / Math.max(total, 1)) + " % of " + choice.files[0].name
		}})
		said.value = attached.name + " is kept."
		location.reload()
	} catch (error) {
		said.value = uploading.signal.aborted ? "Stopped: nothing is kept." : "That did not work: " + error.message
		send.disabled = false
		stop.hidden = bar.hidden = true
		send.focus()
	}
})
stop.addEventListener("click", () => uploading.abort())
