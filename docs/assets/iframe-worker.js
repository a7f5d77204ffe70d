// Search runs in a worker. Browsers refuse to start one from a page that was opened as a file, so there,
// and only there, the worker's script runs in a hidden frame: it sees messages come and go as in a worker.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      document.body.append(this.frame)
      const inside = this.frame.contentWindow
      // Windows deliver messages to themselves; a worker's go to the page that started it.
      inside.postMessage = data => this.deliver(data)
      const script = inside.document.createElement("script")
      this.loaded = new Promise((resolve, reject) => {
        script.onload = resolve
        script.onerror = () => reject(new Error(`cannot load ${url}`))
      })
      this.loaded.catch(error => this.onerror?.(error))
      script.src = new URL(url, location.href).href
      inside.document.body.append(script)
    }

    postMessage(data) {
      const copy = structuredClone(data)
      this.loaded.then(() => this.frame.contentWindow.onmessage?.({ data: copy }), () => {})
    }

    deliver(data) {
      const event = new MessageEvent("message", { data: structuredClone(data) })
      setTimeout(() => {
        this.onmessage?.(event)
        this.dispatchEvent(event)
      })
    }

    terminate() {
      this.frame.remove()
    }
  }
}
