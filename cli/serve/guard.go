package serve

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// guard stands before all routes. A browser can be made to send requests to a
// server on its own machine by any page; it cannot choose the Host header (DNS
// rebinding puts the attacker's name there) nor leave out Origin and
// Sec-Fetch-Site where they are due.
type guard struct {
	hosts map[string]bool // names a client may call the server by, lower case
	port  string
	token [sha256.Size]byte
	auth  bool
	cross *http.CrossOriginProtection
}

func newGuard(hosts []string, port string, token []byte) *guard {
	g := &guard{hosts: map[string]bool{}, port: port, auth: len(token) > 0, cross: http.NewCrossOriginProtection()}
	for _, h := range hosts {
		g.hosts[strings.ToLower(h)] = true
	}
	g.token = sha256.Sum256(token)
	return g
}

// check returns what is wrong with where a request comes from; nil: nothing.
func (g *guard) check(r *http.Request) *Fault {
	if !g.knows(r.Host) {
		return fault(http.StatusMisdirectedRequest, "wrong_host", "the Host header %.60q is none of this server's names (call it by its address, or start it with --host NAME)", r.Host)
	}
	if origin, given := r.Header["Origin"]; given && (len(origin) != 1 || !sameOrigin(origin[0], r.Host)) {
		return fault(http.StatusForbidden, "cross_origin", "pages of another origin may not use this server")
	}
	if err := g.cross.Check(r); err != nil {
		return fault(http.StatusForbidden, "cross_origin", "pages of another origin may not use this server")
	}
	if g.auth && r.URL.Path != "/healthz" && r.URL.Path != "/readyz" && !g.allows(r) {
		f := fault(http.StatusUnauthorized, "unauthorized", "this server wants its token (Authorization: Bearer …; membank --token-file F or MEMBANK_TOKEN_FILE)")
		f.Exit = 1
		return f
	}
	return nil
}

// knows compares the Host header with the names and addresses of this server:
// whole names, and addresses as parsed, not as spelt.
func (g *guard) knows(host string) bool {
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		name, port = host, "80" // a Host without a port is for the default one
		if strings.HasPrefix(name, "[") && strings.HasSuffix(name, "]") {
			name = name[1 : len(name)-1]
		}
	}
	if port != g.port {
		return false
	}
	if g.hosts[strings.ToLower(strings.TrimSuffix(name, "."))] {
		return true
	}
	address, err := netip.ParseAddr(name)
	return err == nil && g.hosts[address.Unmap().String()]
}

func sameOrigin(origin, host string) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, host)
}

// allows compares the token in constant time. A browser, which has no other way
// to send it, may give it as the password of Basic authentication; that such a
// password is sent along unasked is why origins are checked first.
func (g *guard) allows(r *http.Request) bool {
	given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		if _, given, ok = r.BasicAuth(); !ok {
			return false
		}
	}
	sum := sha256.Sum256([]byte(given))
	return subtle.ConstantTimeCompare(sum[:], g.token[:]) == 1
}

// Loopback reports whether an address to listen on is reached from this machine
// only.
func Loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}
