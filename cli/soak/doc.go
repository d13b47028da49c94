// Package soak drives a membank server as the ranks of a training run do, and
// checks every answer against what the server must know.
//
// The server is a process of its own, this program with the command serve, so that
// it can be killed, and so that a build with -race watches it. Clients speak HTTP to
// the public routes and share nothing with the server but the formats of arrays.
//
// What a step writes is a function of the seed and the step (batch.go): ids,
// vectors, how durable it is asked to be. A row carries its step, and all its other
// elements follow from that, so whoever reads a row can tell whose it is and whether
// it is whole.
//
//	shared  clients write one bank of slots and one queue together    shared.go
//	        - an acknowledged update is there, for its writer and for all others
//	        - rows are whole, batches too: what is read is of one moment
//	        - versions never decrease, and none is of a step nobody wrote
//	        - the rows that updates found before them form one chain in which
//	          every update occurs once: none was lost, none done twice (chain.go)
//	        - of each client the queue holds consecutive pushes in order
//	        - after an orderly stop and a start all of it is there
//	kills   clients write banks of their own while the server is      kills.go
//	        killed (SIGKILL), at work or while it starts
//	        - a bank is at a step between the last that was acknowledged as
//	          durable and the last that was sent, and every row and version
//	          is as after that step
//
// A server that says on stderr that it found a data race, or panicked, or does not
// end with exit 0 when it is told to stop, is a fault as well.
package soak
