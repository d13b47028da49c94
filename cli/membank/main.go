// Command membank keeps embeddings, finds their neighbours and scores them.
package main

import (
	"os"

	"membank/cli"
)

func main() { os.Exit(cli.Main()) }
