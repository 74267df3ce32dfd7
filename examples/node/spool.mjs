// Keeps events on disk until Kafka has them.
//
// Each file is a source of its own, whose events are numbered by their lines: so a number is never given twice, whatever is
// lost or restored, and a file that is sent a second time is charged once. A process always begins a new file.
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, open, readFile, readdir, realpath, rename, rm, truncate, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { basename, join } from 'node:path'

const FILE_BYTES = 64 * 1024 * 1024
const BATCH_BYTES = 512 * 1024 // a record stays far below Kafka's megabyte
const BATCH_LINES = 500

export class Spool {
  #files = [] // the oldest first: {path, size, sent, partitions}, in bytes that are durable, and that Kafka has
  #current = null // the one that is written to
  #writing = null
  #lines = 0
  #waiting = [] // what is given to append and not stored yet
  #storing = false
  #stored = false // something, since `more` was asked last
  #wake = () => {}

  // Opens a directory for this process alone. Throws where a stored event cannot be read: none is ever skipped.
  static async open(dir, node, bytesMax) {
    await mkdir(dir, { recursive: true, mode: 0o700 })
    await lock(dir)
    const spool = new Spool(dir, node, bytesMax)
    const names = (await readdir(dir)).filter((name) => name.endsWith('.events')).sort() // they begin with the time
    for (const name of names) spool.#files.push(await openFile(join(dir, name)))
    return spool
  }

  constructor(dir, node, bytesMax) {
    Object.assign(this, { dir, node, bytesMax })
  }

  // --- storing ---

  // Stores an event, which survives a power cut once this has returned. Where it throws, nothing is stored.
  append(event, holdNano) {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ event, holdNano, resolve, reject })
      if (!this.#storing) this.#storeAll()
    })
  }

  // Too much waits for Kafka already: then nothing more is to be served.
  isFull() {
    return this.waitingBytes() >= this.bytesMax
  }

  waitingBytes() {
    return this.#files.reduce((sum, { size, sent }) => sum + size - sent, 0)
  }

  // All events that wait are stored with one fsync.
  async #storeAll() {
    this.#storing = true
    while (this.#waiting.length) {
      const together = this.#waiting.splice(0, BATCH_LINES)
      try {
        await this.#store(together)
        for (const { resolve } of together) resolve()
        this.#stored = true
        this.#wake()
      } catch (error) {
        for (const { reject } of together) reject(error)
      }
    }
    this.#storing = false
  }

  async #store(together) {
    if (this.isFull()) throw new Error('the spool is full')
    if (this.#current?.size >= FILE_BYTES) await this.#end()
    if (!this.#current) await this.#begin()
    const file = this.#current
    const source = `gateway/${this.node}/${basename(file.path, '.events')}`
    const lines = together.map(({ event, holdNano }, at) => {
      const sequence = String(this.#lines + at + 1).padStart(20, '0')
      return `${JSON.stringify({ hold_nano: String(holdNano), event: { ...event, source, sequence } })}\n`
    })
    const data = Buffer.from(lines.join(''))
    try {
      for (let written = 0; written < data.length; ) {
        written += (await this.#writing.write(data, written, data.length - written, file.size + written)).bytesWritten
      }
      await this.#writing.datasync()
    } catch (error) {
      // Nothing of it may be sent one day: these requests are answered as not served. What follows gets a new file.
      await this.#writing.truncate(file.size).catch((cut) => {
        console.error(`${file.path} can neither be written (${error.message}) nor cut (${cut.message})`)
        process.exit(1)
      })
      await this.#end()
      throw error
    }
    this.#lines += together.length
    file.size += data.length
  }

  async #begin() {
    const time = String(BigInt(Date.now()) * 1_000_000n).padStart(19, '0')
    const path = join(this.dir, `${time}-${randomBytes(4).toString('hex')}.events`)
    const writing = await open(path, 'wx', 0o600)
    const directory = await open(this.dir)
    await directory.sync().finally(() => directory.close())
    this.#writing = writing
    this.#current = { path, size: 0, sent: 0, partitions: 0 }
    this.#lines = 0
    this.#files.push(this.#current)
  }

  async #end() {
    const writing = this.#writing
    this.#current = this.#writing = null
    await writing.close()
  }

  // --- sending ---

  // Returns when there may be more to send.
  async more(limitMs) {
    if (!this.#stored) {
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, limitMs)
        this.#wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
    this.#stored = false
  }

  // Returns the oldest events that Kafka does not have: {file, lines, bytes}, null where there are none. Files that are done
  // with go.
  async next() {
    while (this.#files.length) {
      const [file] = this.#files
      if (file.sent < file.size) return { file, ...(await readLines(file, file.sent)) }
      if (file === this.#current) return null
      this.#files.shift()
      await rm(file.path)
      await rm(markOf(file), { force: true })
    }
    return null
  }

  // Keeps a batch from being sent where the topic has another number of partitions than when the first events of its file
  // were sent: a partition knows the duplicates of its own events alone.
  async checkPartitions({ file }, partitions) {
    if (file.partitions && file.partitions !== partitions) {
      throw new Error(`the topic has ${partitions} partitions, the waiting events were sent to ${file.partitions}: restore the topic`)
    }
    if (!file.partitions) {
      file.partitions = partitions
      await mark(file)
    }
  }

  // Kafka has a batch.
  async acknowledge({ file, bytes }) {
    file.sent += bytes
    await mark(file)
  }

  // Yields every event that an earlier process left.
  async *leftovers() {
    for (const file of [...this.#files]) {
      for (let at = file.sent; at < file.size; ) {
        const { lines, bytes } = await readLines(file, at)
        yield* lines
        at += bytes
      }
    }
  }
}

// Throws where another process has the directory. The kernel gives the name free when the process ends, however it does.
async function lock(dir) {
  const server = createServer()
  server.unref()
  server.listen({ path: `\0metering-spool:${await realpath(dir)}` })
  await once(server, 'listening').catch((error) => {
    throw new Error(`another process has the spool ${dir}: ${error.message}`)
  })
}

// Looks through a file of an earlier process. What a crash left half written at its end was never reported as stored, and is
// cut off.
async function openFile(path) {
  let data = await readFile(path)
  const torn = data.indexOf(0) // a power cut may leave zeros where data was not written yet
  if (torn >= 0) data = data.subarray(0, torn)
  data = data.subarray(0, data.lastIndexOf('\n') + 1)
  for (const [number, line] of data.toString().split('\n').slice(0, -1).entries()) {
    try {
      JSON.parse(line)
    } catch {
      throw new Error(`${path}: line ${number + 1} is damaged`)
    }
  }
  await truncate(path, data.length)
  const file = { path, size: data.length, sent: 0, partitions: 0 }
  // Without the mark, or with a damaged one, all is sent again, and charged once.
  const marked = /^(\d+) (\d+)\n$/.exec(await readFile(markOf(file), 'utf8').catch(() => ''))
  if (marked && Number(marked[1]) <= file.size) Object.assign(file, { sent: Number(marked[1]), partitions: Number(marked[2]) })
  return file
}

async function readLines(file, from) {
  const handle = await open(file.path)
  try {
    const data = Buffer.alloc(Math.min(BATCH_BYTES, file.size - from))
    await handle.read(data, 0, data.length, from)
    const texts = data.toString().split('\n').slice(0, -1).slice(0, BATCH_LINES)
    return { lines: texts.map((text) => JSON.parse(text)), bytes: texts.reduce((sum, text) => sum + Buffer.byteLength(text) + 1, 0) }
  } finally {
    await handle.close()
  }
}

function markOf({ path }) {
  return path.replace(/\.events$/, '.sent')
}

// Not waited for to reach the disk: what it has forgotten is sent again, and charged once.
async function mark(file) {
  await writeFile(`${markOf(file)}.next`, `${file.sent} ${file.partitions}\n`, { mode: 0o600 })
  await rename(`${markOf(file)}.next`, markOf(file))
}
