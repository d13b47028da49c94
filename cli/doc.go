// Package cli is what people and programs talk to: the commands of membank.
//
// A command is one variable (its flags and help, a *cli.Command of urfave/cli)
// and one function. [Run] is the whole program with its streams as arguments, so
// a test runs a session in-process and compares the transcript; [Main] adds the
// process's own arguments and the interrupt.
//
//	argv      flags on either side of everything, in the order the library reads
//	session   the global flags, opening the database, where results go
//	errors    one table from the errors of all rooms to exit codes and remedies
//	print     tables for people and JSON for programs, from one struct
//	routes    commands as routes of HTTP; call runs one for a request (package serve)
//	remote    a command against a server, where --db is its URL
//	upload    the rows of a request's body, sent and taken
//
// Results go to stdout and everything else to stderr. Commands that change
// nothing open the database read-only, so any number of them run side by side.
// A file named by -o appears when it is whole, or not at all.
package cli
