"""What the tests share, a kind in each place.

Values: `builders` (events, rates, a unit of work), `billing`, `commands`, `mails`, `journal_rows`.
Seconds to hold the product against: `oracle` (naive books), `books_machine` (the random driver of both).
Doors: `parts` (which Kafka and ClickHouse), `ports`, `mail` (a mail server), `clickhouse/` (a front that
misbehaves), `api/` (the app in this process, and its routes), `gateway/` (gateway processes).
The whole product: `product/`, as processes, alone and with Razorpay's stand-in. Files: `deploy`, `helm/` (the chart rendered),
`stack/` (the images and the compose stack), `kube/` (a Kubernetes of one node).
How tests are run: `lanes`. The simulation is a program of its own: tests/simulation.
"""
