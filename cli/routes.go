package cli

import (
	"membank/bench/eval"
	"membank/cli/serve"
	"membank/index/memory"

	ucli "github.com/urfave/cli/v2"
)

// routed is a command as a route: what HTTP adds to what the command's table says.
type routed struct {
	command      []string
	method, path string
	args         []serve.Param
	only         []string // the flags that are parameters; nil: all that name no file
	without      []string
	file         string // the flag whose file is the body; "-": positionals; "*": each array is that of the flag it is called by
	files        []string
	needsOne     []string
	needsFile    bool
	light, lines bool
	result       any
	others       []any // what some flags print instead
}

var bankArg = []serve.Param{{Name: "bank", About: "name of the bank; a slash in it is written %2F", Required: true}}

var memoryArg = []serve.Param{{Name: "name", About: "name of the memory bank; a slash in it is written %2F", Required: true}}

// routeTable is every command that a server offers, in the order of the help. The
// command line at the other end finds its route here, too.
var routeTable = []routed{
	{command: []string{"ls"}, method: "GET", path: "/v1/banks", light: true, result: []bankLine{},
		args: []serve.Param{{Name: "prefix", About: "only banks whose names begin so"}}},
	{command: []string{"show"}, method: "GET", path: "/v1/banks/{bank}", args: bankArg, light: true, result: bankCard{}},
	{command: []string{"rm"}, method: "DELETE", path: "/v1/banks/{bank}", args: bankArg, only: []string{"dry-run"}, result: removal{}},
	{command: []string{"ingest"}, method: "POST", path: "/v1/banks/{bank}/rows", args: bankArg, file: "-", result: ingested{}},
	{command: []string{"get"}, method: "GET", path: "/v1/banks/{bank}/rows", args: bankArg, files: []string{".npy", ".npz", ".csv"}, result: []record{}},
	{command: []string{"rm"}, method: "POST", path: "/v1/banks/{bank}/rows/delete", args: bankArg, only: []string{"where", "dry-run"}, needsOne: []string{"keys", "where"}, file: "keys", result: removal{}},
	{command: []string{"query"}, method: "POST", path: "/v1/banks/{bank}/query", args: bankArg, file: "vectors",
		files: []string{".npz", ".csv", ".html"}, lines: true, result: answer{}},
	{command: []string{"graph"}, method: "POST", path: "/v1/banks/{bank}/graph", args: bankArg, files: []string{".npz"}, needsFile: true, result: graphReport{}},
	{command: []string{"export"}, method: "GET", path: "/v1/banks/{bank}/export", args: bankArg, files: []string{".npz", ".npy", ".csv"}, needsFile: true, result: exported{}},
	{command: []string{"index", "codes"}, method: "POST", path: "/v1/banks/{bank}/index/codes", args: bankArg, result: coded{}},
	{command: []string{"index", "build"}, method: "POST", path: "/v1/banks/{bank}/index", args: bankArg, result: grouped{}},
	{command: []string{"index", "show"}, method: "GET", path: "/v1/banks/{bank}/index", args: bankArg, result: shown{}},
	{command: []string{"index", "tune"}, method: "POST", path: "/v1/banks/{bank}/index/tune", args: bankArg, result: grouped{}},
	{command: []string{"index", "drop"}, method: "DELETE", path: "/v1/banks/{bank}/index", args: bankArg, result: grouped{}},
	{command: []string{"eval", "knn"}, method: "POST", path: "/v1/eval/knn", files: []string{".csv", ".svg", ".png"}, result: eval.KNNResult{}, others: []any{curve{}, []eval.Protocol{}}},
	{command: []string{"eval", "retrieval"}, method: "POST", path: "/v1/eval/retrieval", files: []string{".csv"}, result: eval.RetrievalResult{}},
	{command: []string{"eval", "clusters"}, method: "POST", path: "/v1/eval/clusters", args: []serve.Param{{Name: "bank", About: "a bank, or several", Required: true, Many: true}}, result: eval.ClustersResult{}},
	{command: []string{"eval", "fewshot"}, method: "POST", path: "/v1/eval/fewshot", result: eval.FewShotResult{}, others: []any{[]eval.Protocol{}}},
	{command: []string{"eval", "groups"}, method: "POST", path: "/v1/eval/groups", result: eval.GroupsResult{}},
	{command: []string{"eval", "robustness"}, method: "POST", path: "/v1/eval/robustness", files: []string{".csv"}, result: eval.RobustnessResult{}},
	{command: []string{"eval", "transfer"}, method: "POST", path: "/v1/eval/transfer", files: []string{".csv"}, result: eval.TransferResult{}, others: []any{[]eval.Protocol{}}},
	{command: []string{"report"}, method: "POST", path: "/v1/report", files: []string{".html", ".zip"}, needsFile: true, result: reported{},
		args: []serve.Param{{Name: "bank", About: "a bank, or several by a pattern", Required: true, Many: true}}},
	{command: []string{"bank", "show"}, method: "GET", path: "/v1/memory", light: true, result: []string{}},
	{command: []string{"bank", "show"}, method: "GET", path: "/v1/memory/{name}", args: memoryArg, result: shownBank{}},
	{command: []string{"bank", "init"}, method: "POST", path: "/v1/memory/{name}", args: memoryArg, file: "*", result: shownBank{}},
	{command: []string{"bank", "drop"}, method: "DELETE", path: "/v1/memory/{name}", args: memoryArg, without: []string{"yes"}, result: removal{}},
	{command: []string{"bank", "update"}, method: "POST", path: "/v1/memory/{name}/update", args: memoryArg, file: "*", files: []string{".npz"}, result: memory.Written{}},
	{command: []string{"bank", "push"}, method: "POST", path: "/v1/memory/{name}/push", args: memoryArg, file: "*", files: []string{".npz"}, result: memory.Written{}},
	{command: []string{"bank", "get"}, method: "POST", path: "/v1/memory/{name}/get", args: memoryArg, file: "*", files: []string{".npz", ".npy"}, result: []bankRow{}},
	{command: []string{"bank", "sample"}, method: "POST", path: "/v1/memory/{name}/sample", args: memoryArg, file: "*", files: []string{".npy"}, result: drawnIDs{}},
	{command: []string{"bank", "nearest"}, method: "POST", path: "/v1/memory/{name}/nearest", args: memoryArg, file: "*", files: []string{".npz"}, lines: true, result: bankAnswer{}},
	{command: []string{"bank", "loss"}, method: "POST", path: "/v1/memory/{name}/loss", args: memoryArg, file: "*", result: memory.Loss{}},
	{command: []string{"bank", "consistency"}, method: "POST", path: "/v1/memory/{name}/consistency", args: memoryArg, file: "*", result: consistent{}},
	{command: []string{"bank", "smooth"}, method: "POST", path: "/v1/memory/{name}/smooth", args: memoryArg, file: "*", files: []string{".npz"}, result: smoothed{}},
	{command: []string{"bank", "transform"}, method: "POST", path: "/v1/memory/{name}/transform", args: memoryArg, file: "*", files: []string{".npz"}, needsFile: true, result: writtenRows{}},
	{command: []string{"bank", "assign"}, method: "POST", path: "/v1/memory/{name}/assign", args: memoryArg, file: "*", files: []string{".npy", ".npz"}, result: assigned{}},
	{command: []string{"bank", "recluster"}, method: "POST", path: "/v1/memory/{name}/recluster", args: memoryArg, file: "*", files: []string{".npz"}, result: reclustered{}},
	{command: []string{"bank", "odc-start"}, method: "POST", path: "/v1/memory/{name}/odc-start", args: memoryArg, file: "*", result: odcStarted{}},
	{command: []string{"bank", "odc"}, method: "POST", path: "/v1/memory/{name}/odc", args: memoryArg, file: "*", result: odcStepped{}},
	{command: []string{"bank", "concentrations"}, method: "POST", path: "/v1/memory/{name}/concentrations", args: memoryArg, file: "*", files: []string{".npy", ".npz"}, result: concentrated{}},
	{command: []string{"bank", "checkpoint"}, method: "POST", path: "/v1/memory/{name}/checkpoint", args: memoryArg, result: memory.Checkpoint{}},
	{command: []string{"bank", "restore"}, method: "POST", path: "/v1/memory/{name}/restore", args: memoryArg, result: memory.Checkpoint{}},
	{command: []string{"bank", "forget"}, method: "POST", path: "/v1/memory/{name}/forget", args: memoryArg, result: removal{}},
	{command: []string{"compact"}, method: "POST", path: "/v1/compact", result: compacted{}},
}

// find is the command of these words; nil if this build has none.
func find(words []string) *ucli.Command { return findIn(commands(), words) }

func findIn(level []*ucli.Command, words []string) *ucli.Command {
	var found *ucli.Command
	for _, word := range words {
		found = nil
		for _, c := range level {
			if c.HasName(word) {
				found = c
			}
		}
		if found == nil {
			return nil
		}
		level = found.Subcommands
	}
	return found
}

// serveRoutes are the routes of a server: the table as far as this build has the
// commands, their flags as parameters.
func serveRoutes() []serve.Route {
	var list []serve.Route
	for _, r := range routeTable {
		command := find(r.command)
		if command == nil {
			continue
		}
		route := serve.Route{
			Method: r.method, Path: r.path, Summary: command.Usage, Command: r.command, Args: r.args, Files: r.files,
			NeedsOne: r.needsOne, NeedsFile: r.needsFile, Light: r.light, Lines: r.lines, Result: r.result, Others: r.others,
		}
		for _, p := range params(command, r.without...) {
			if r.offers(p.Name) {
				route.Params = append(route.Params, p)
			}
		}
		if r.files != nil {
			route.Params = append(route.Params, serve.Param{Name: "output", About: "answer with a file of this kind, F.npz say; the name is only a name"})
		}
		switch r.file {
		case "":
		case "-":
			route.Body = serve.UploadBody
		case "*":
			route.Body = serve.NamedBody
		default:
			route.Body, route.BodyFlag = serve.ArrayBody, r.file
			route.Params = append(route.Params, serve.Param{Name: r.file, About: "what errors call the body; it is not opened"})
		}
		list = append(list, route)
	}
	return list
}

func (r *routed) offers(name string) bool {
	if r.only == nil {
		return true
	}
	for _, n := range r.only {
		if n == name {
			return true
		}
	}
	return false
}
