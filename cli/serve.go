package cli

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"

	"membank/cli/serve"
	"membank/store"

	ucli "github.com/urfave/cli/v2"
)

func serveCommand() *ucli.Command {
	return &ucli.Command{
		Name: "serve", Usage: "put the database behind HTTP", ArgsUsage: "",
		Description: "Holds the database, so that training jobs, notebooks and this command line (--db\n" +
			"http://127.0.0.1:7700) share it. Everything is under /v1, which GET\n" +
			"/v1/openapi.json describes; / is a page for a browser. SIGTERM stops it in order:\n" +
			"what is under way has twenty seconds, and nothing acknowledged is lost.\n\n" +
			"  membank serve --images photos\n" +
			"  membank serve --listen 10.0.0.5:7700 --token-file token --insecure-http\n" +
			"  membank ls --db http://127.0.0.1:7700",
		Flags: []ucli.Flag{
			&ucli.StringFlag{Name: "listen", Usage: "`ADDRESS`:PORT to listen on; port 0 takes a free one", Value: "127.0.0.1:7700"},
			&ucli.StringFlag{Name: "images", Usage: "`DIR` where keys are paths of images, for the page"},
			&ucli.StringSliceFlag{Name: "host", Usage: "a `NAME` clients call this server by, beside its address; may be given again"},
			&ucli.BoolFlag{Name: "insecure-http", Usage: "listen beyond this machine although HTTP shows token and data to the network"},
			&ucli.StringFlag{Name: "bank-memory", Usage: "hold memory banks of training runs up to `SIZE`", Value: "8GiB"},
			&ucli.StringFlag{Name: "max-body", Usage: "refuse bodies larger than `SIZE`", Value: "16GiB"},
		},
		Action: action(nil, runServe),
	}
}

// listening is printed once the server answers.
type listening struct {
	URL      string `json:"url"`
	Database string `json:"database"`
	Token    bool   `json:"token"` // one is asked for
}

func runServe(ctx context.Context, s *session, c *ucli.Context, _ []string) error {
	o, err := serveOptions(s, c)
	if err != nil {
		return err
	}
	bankMemory, err := parseSize(c.String("bank-memory"))
	if err != nil {
		return usage("--bank-memory: %v", err)
	}
	return s.writing(ctx, true, func(db *store.DB) error {
		l, err := net.Listen("tcp", c.String("listen"))
		if err != nil {
			return &failure{exit: exitFailure, code: "listen", err: err, text: fmt.Sprintf("--listen %s: %v (name another address or port)", c.String("listen"), cause(err))}
		}
		defer l.Close()
		host := newHost(s, db, c.String("images"), bankMemory)
		defer host.close()
		o.Routes = serveRoutes()
		o.Run, o.Explain, o.Gauges = host.run, explain, host.gauges()
		if c.String("images") != "" {
			o.Picture, o.Pictured = host.picture, host.pictured
		}
		server, err := serve.New(l, o)
		if err != nil {
			return err
		}
		r := listening{"http://" + l.Addr().String(), db.Dir(), len(o.Token) > 0}
		if err := s.emit(r, func(w io.Writer) { fmt.Fprintf(w, "serving %s on %s\n", r.Database, r.URL) }); err != nil {
			return err
		}
		err = server.Serve(ctx, l)
		return errors.Join(err, host.close())
	})
}

// cause is the innermost error, without the operation and address around it.
func cause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// serveOptions reads the flags and refuses to expose more than was meant.
func serveOptions(s *session, c *ucli.Context) (o serve.Options, err error) {
	o.Version, o.Hosts = version(), c.StringSlice("host")
	address := c.String("listen")
	host, port, err := net.SplitHostPort(address)
	if err != nil || port == "" {
		return o, usage("--listen %s: not an address and a port (write 127.0.0.1:7700)", address)
	}
	if path := c.String("token-file"); path != "" {
		if o.Token, err = serverToken(path); err != nil {
			return o, err
		}
	}
	if !serve.Loopback(host) {
		switch {
		case o.Token == nil:
			return o, usage("--listen %s: is reached from other machines, and whoever reaches it could read and delete every bank (give --token-file FILE and --insecure-http, or listen on 127.0.0.1)", address)
		case !c.Bool("insecure-http"):
			return o, usage("--listen %s: HTTP shows the token and all data to the network (put a TLS proxy in front of 127.0.0.1, or give --insecure-http)", address)
		}
	}
	if o.MaxBody, err = parseSize(c.String("max-body")); err != nil || o.MaxBody < 1<<20 {
		return o, usage("--max-body %s: not a size of at least 1MiB (write 16GiB)", c.String("max-body"))
	}
	if dir := c.String("images"); dir != "" {
		pictures, err := openPictures(dir)
		if err != nil {
			return o, err
		}
		pictures.close()
	}
	level := slog.LevelInfo
	if c.IsSet("log-level") {
		level.UnmarshalText([]byte(c.String("log-level"))) // checked by newSession
	}
	if s.quiet {
		level = slog.LevelError
	}
	o.Log = slog.New(slog.NewTextHandler(s.stderr, &slog.HandlerOptions{Level: level}))
	return o, nil
}

// serverToken reads a token that nobody else on the machine can.
func serverToken(path string) ([]byte, error) {
	stat, err := os.Stat(path)
	if err == nil && stat.Mode().IsRegular() && stat.Mode().Perm()&0o077 != 0 {
		return nil, usage("--token-file %s: other users can read it (chmod 600 %s)", path, path)
	}
	token, err := readToken(path)
	if err == nil && len(token) < 16 {
		return nil, usage("--token-file %s: %d characters are too few for a token (openssl rand -hex 32 > %s)", path, len(token), path)
	}
	return token, err
}

// readToken reads a token, the only line of a file.
func readToken(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("--token-file %s: %w", path, cause(err))
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 4097))
	if err != nil {
		return nil, fmt.Errorf("--token-file %s: %w", path, cause(err))
	}
	token := bytes.TrimSpace(text)
	if len(text) > 4096 || len(token) == 0 || strings.ContainsAny(string(token), " \t\r\n") {
		return nil, usage("--token-file %s: holds no token (one line of letters and digits)", path)
	}
	return token, nil
}
