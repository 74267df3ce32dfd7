// A gateway that is metered by this product, without its library: docs/gateway-protocol.md step by step.
//
// A request is admitted from memory (admission.mjs), which is fed from Kafka (follow.mjs, records.mjs); refusals are worded in
// refusal.mjs. A provider serves it (provider.mjs, chat.mjs), its usage is read (usage.mjs), and its event is on the disk
// (spool.mjs) before the end of the answer goes out. From there it goes to Kafka (send.mjs).
import { createServer } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'

import { Admission } from './admission.mjs'
import { Gateway } from './chat.mjs'
import { Follower } from './follow.mjs'
import { readRoutes } from './provider.mjs'
import { answer, refuse } from './refusal.mjs'
import { Sender } from './send.mjs'
import { Spool } from './spool.mjs'

const STOP_LIMIT_MS = 20_000
const DRAIN_LIMIT_MS = 10_000

const { values: given } = parseArgs({
  options: {
    'kafka-url': { type: 'string', default: process.env.METERING_KAFKA_URL }, // kafka://host:port, more brokers after commas
    node: { type: 'string', default: process.env.METERING_NODE }, // this node's name in the source of its events
    'spool-dir': { type: 'string', default: process.env.METERING_SPOOL_DIR }, // where events wait; of this process alone
    'spool-bytes-max': { type: 'string', default: String(1 << 30) }, // so much may wait, then nothing more is served
    routes: { type: 'string', default: '../routes.json' }, // the models, and who serves them
    listen: { type: 'string', default: '127.0.0.1:8011' },
    'when-stale': { type: 'string', default: 'open' }, // go on by the last verdicts; closed: answer 503
  },
})
for (const name of ['kafka-url', 'node', 'spool-dir']) {
  if (!given[name]) {
    console.error(`--${name} is needed`)
    process.exit(2)
  }
}

const routes = await readRoutes(given.routes)
const spool = await Spool.open(given['spool-dir'], given.node, Number(given['spool-bytes-max']))
const admission = new Admission(Date.now, given['when-stale'] !== 'closed')
for await (const { hold_nano: nano, event } of spool.leftovers()) admission.hold({ org: event.subject, nano: BigInt(nano) })
const brokers = given['kafka-url'].replace('kafka://', '').split(',')
const follower = new Follower(brokers, admission)
const sender = new Sender(brokers, spool, admission)
const gateway = new Gateway(admission, spool, routes)
follower.run()
sender.run()

function health(response) {
  const { ready, stale } = admission.standing()
  response.writeHead(ready ? 200 : 503, { 'content-type': 'application/json' })
  response.end(
    JSON.stringify({
      ready,
      stale,
      waiting_bytes: spool.waitingBytes(),
      records_unread: follower.unread,
      sending: sender.problem,
      following: follower.problem,
    }),
  )
}

const server = createServer((request, response) => {
  const asked = `${request.method} ${request.url}`
  if (asked === 'GET /healthz') return health(response)
  if (asked === 'POST /v1/chat/completions') return gateway.chat(request, response)
  return answer(response, refuse('not_found', `there is no ${asked} here`))
})
const [host, port] = given.listen.split(':')
server.listen(Number(port), host, () => console.error(`answering on http://${given.listen}`))

// Lets the requests under way end, and Kafka take what waits. What it has not taken by then is sent by the next start.
async function stop() {
  const closed = new Promise((resolve) => server.close(resolve))
  server.closeIdleConnections()
  await Promise.race([closed, sleep(STOP_LIMIT_MS)])
  const deadlineMs = Date.now() + DRAIN_LIMIT_MS
  while (spool.waitingBytes() > 0 && Date.now() < deadlineMs) await sleep(10)
  console.error(`stopped; ${spool.waitingBytes()} bytes of events wait for the next start`)
  process.exit(0)
}
process.once('SIGTERM', stop)
process.once('SIGINT', stop)
