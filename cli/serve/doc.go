// Package serve puts the commands of membank behind HTTP.
//
// A request is a command: its query parameters are the command's flags under
// their own names, its body is the file the command would read, and its answer is
// the JSON the command prints with --json. So there is one implementation of each
// verb, and what the command line refuses the server refuses in the same words.
//
//	POST /v1/banks/train/query?k=20&metric=cosine      an .npy in, JSON Lines out
//	POST /v1/banks/train/query?k=20&output=near.npz    the .npz itself out
//	Accept: text/plain                                 tables for people
//
// What a route is, package cli says (Route); this package knows HTTP and nothing
// of banks:
//
//	server    the listener, its limits, start and orderly stop        server.go
//	guard     host, origin, token: before any routing                 guard.go
//	body      a request's bytes with a deadline that rolls            body.go
//	shed      how many work at once, who waits, who is sent away      shed.go
//	answer    held back until it is whole, so an error has its status answer.go
//	route     parameters checked against the route, then the command  route.go
//	openapi   the routes as an OpenAPI 3.1 document                   openapi.go
//	metrics   Prometheus                                              metrics.go
//	page      a web page of banks and neighbours                      page.go
//
// # What a client can cost
//
// Headers: 64 KiB and 5 seconds. A body is read in pieces while it arrives, each
// within ten seconds and all of them above 16 KiB/s on average; bodies up to
// 1 MiB are read before a worker is taken, so a slow one holds none. Work is done
// by as many requests at once as there are cores, some wait for a bounded time,
// the rest get 429 or 503 with Retry-After. A request may hold its share of the
// server's memory, and rows of a memory bank up to that bank's size. An answer is kept in memory up to
// 1 MiB and beyond that in an unlinked temporary file.
package serve
