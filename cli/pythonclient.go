package cli

import (
	"context"
	_ "embed"
	"io"

	ucli "github.com/urfave/cli/v2"
)

//go:embed serve/client/python/membank.py
var pythonClient string

func pythonClientCommand() *ucli.Command {
	return &ucli.Command{
		Name: "python-client", Usage: "print the Python client of the server", ArgsUsage: "",
		Description: "One file that needs numpy and nothing else, of the same version as the server:\n\n" +
			"  membank python-client > membank.py",
		Action: action(nil, func(ctx context.Context, s *session, c *ucli.Context, _ []string) error {
			_, err := io.WriteString(s.stdout, pythonClient)
			return err
		}),
	}
}
