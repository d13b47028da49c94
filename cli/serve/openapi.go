package serve

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// openAPI describes the routes as an OpenAPI 3.1 document, whose schemas are JSON
// Schema. It is made from what the handlers themselves go by: a parameter is in it
// if and only if parse takes it, and a schema is that of the type that is printed.
func (s *Server) openAPI() ([]byte, error) {
	paths := map[string]map[string]any{}
	add := func(path, method string, operation map[string]any) {
		if paths[path] == nil {
			paths[path] = map[string]any{}
		}
		paths[path][strings.ToLower(method)] = operation
	}
	for i := range s.o.Routes {
		route := &s.o.Routes[i]
		if route.Method == "" || route.Path == "" {
			return nil, fmt.Errorf("serve: route %d has no method or path", i)
		}
		add(route.Path, route.Method, route.operation())
	}
	plain := func(summary, kind string) map[string]any {
		return map[string]any{"summary": summary, "responses": map[string]any{
			"200":     map[string]any{"description": "As the summary says.", "content": map[string]any{kind: map[string]any{"schema": map[string]any{"type": "string"}}}},
			"default": map[string]any{"$ref": "#/components/responses/Error"}}}
	}
	add("/healthz", "GET", plain("The process answers.", typeText))
	add("/readyz", "GET", plain("The server takes work; 503 when it is stopping.", typeText))
	add("/metrics", "GET", plain("Figures for Prometheus.", typeText))
	add("/v1/openapi.json", "GET", map[string]any{"summary": "This document.", "responses": map[string]any{
		"200": map[string]any{"description": "OpenAPI 3.1.", "content": map[string]any{typeJSON: map[string]any{"schema": map[string]any{"type": "object"}}}}}})
	document := map[string]any{
		"openapi": "3.1.0",
		"info": map[string]any{"title": "membank", "version": s.o.Version,
			"description": "Banks of embeddings: exact nearest neighbours, evaluation, memory banks of training runs. A request is a command of the command line: " +
				"query parameters are its flags, the body is the file it reads, and the answer is what it prints with --json. " +
				"A bank's name that holds a slash is percent-encoded in a path: simclr%2Ftrain."},
		"paths": paths,
		"components": map[string]any{
			"schemas": map[string]any{"Error": schemaOf(reflect.TypeFor[errorDocument]())},
			"responses": map[string]any{"Error": map[string]any{
				"description": "What is wrong, and what to do. 400 wrong usage, 401 no token, 403 another origin, 404 no such bank, key or row, 408 too slow, 409 in the way of another, 413 too large, 415 not an array, 421 another host's name, 422 bad data, 429 and 503 busy (Retry-After), 500 a fault of the server, 507 no space.",
				"headers":     map[string]any{"Retry-After": map[string]any{"schema": map[string]any{"type": "integer"}}},
				"content":     map[string]any{typeJSON: map[string]any{"schema": map[string]any{"$ref": "#/components/schemas/Error"}}}}},
			"securitySchemes": map[string]any{"token": map[string]any{"type": "http", "scheme": "bearer"}},
		},
		"security": []any{map[string]any{"token": []any{}}, map[string]any{}},
	}
	return json.MarshalIndent(document, "", " ")
}

func (route *Route) operation() map[string]any {
	parameters := []any{}
	describe := func(p Param, in string, required bool) {
		schema := map[string]any{"type": "string"}
		switch {
		case p.Switch:
			schema = map[string]any{"type": "boolean", "default": false}
		case p.Many:
			schema = map[string]any{"type": "array", "items": schema}
		}
		parameters = append(parameters, map[string]any{"name": p.Name, "in": in, "required": required, "description": p.About, "schema": schema})
	}
	for _, a := range route.Args {
		if strings.Contains(route.Path, "{"+a.Name+"}") {
			describe(a, "path", true)
		} else {
			describe(a, "query", a.Required)
		}
	}
	for _, p := range route.Params {
		describe(p, "query", p.Required || p.Name == "output" && route.NeedsFile)
	}
	content := map[string]any{}
	binary := func(kind string) { content[kind] = map[string]any{"schema": map[string]any{}} }
	if !route.NeedsFile && (route.Result != nil || route.Handle == nil) {
		schema := map[string]any{"type": []string{"object", "array"}}
		if route.Result != nil {
			schema = schemaOf(reflect.TypeOf(route.Result))
		}
		if route.Others != nil {
			shapes := []any{schema}
			for _, other := range route.Others {
				shapes = append(shapes, schemaOf(reflect.TypeOf(other)))
			}
			schema = map[string]any{"anyOf": shapes}
		}
		if route.Lines {
			content[typeLines] = map[string]any{"schema": schema}
		} else {
			content[typeJSON] = map[string]any{"schema": schema}
		}
		if route.Handle == nil {
			content[typeText] = map[string]any{"schema": map[string]any{"type": "string", "description": "tables for people"}}
		}
	}
	for _, kind := range route.Gives {
		binary(kind)
	}
	for _, extension := range route.Files {
		kind, _, _ := strings.Cut(fileType(extension), ";")
		binary(kind)
	}
	operation := map[string]any{
		"summary": route.Summary, "operationId": route.operationID(), "parameters": parameters,
		"responses": map[string]any{
			"200":     map[string]any{"description": "Done.", "content": content},
			"default": map[string]any{"$ref": "#/components/responses/Error"},
		},
	}
	accepts := route.Accepts
	if route.Body != NoBody {
		accepts = arrayTypes
	}
	if len(accepts) > 0 {
		body := map[string]any{}
		for _, kind := range accepts {
			body[kind] = map[string]any{"schema": map[string]any{}}
			if kind == typeJSON && route.Body == NamedBody {
				body[kind] = map[string]any{"schema": map[string]any{"type": "object", "description": "arrays by the names of the flags whose files they stand for: ids, vectors, vectors_1, labels", "additionalProperties": map[string]any{"type": "array"}}}
			} else if kind == typeJSON && route.Body != NoBody {
				body[kind] = map[string]any{"schema": schemaOf(reflect.TypeFor[small]())}
			}
		}
		operation["requestBody"] = map[string]any{"required": route.Body == UploadBody, "content": body}
	}
	return operation
}

// operationID is "post_banks_query".
func (route *Route) operationID() string {
	words := []string{strings.ToLower(route.Method)}
	for _, part := range strings.Split(route.Path, "/") {
		if part != "" && part != "v1" && !strings.HasPrefix(part, "{") {
			words = append(words, part)
		}
	}
	return strings.Join(words, "_")
}

// anything are types with a JSON form of their own; those that are described say
// which.
var anything = reflect.TypeFor[json.Marshaler]()

type described interface{ JSONSchema() map[string]any }

// schemaOf is the JSON Schema of how encoding/json writes a type.
func schemaOf(t reflect.Type) map[string]any {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case t.Kind() != reflect.Pointer && t.Implements(reflect.TypeFor[described]()):
		return reflect.Zero(t).Interface().(described).JSONSchema()
	case t.Implements(anything) || reflect.PointerTo(t).Implements(anything):
		return map[string]any{}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return orNull(schemaOf(t.Elem()))
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return map[string]any{"type": "integer"}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return map[string]any{"type": "integer", "minimum": 0}
	case reflect.Float32, reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.Slice:
		return orNull(map[string]any{"type": "array", "items": schemaOf(t.Elem())})
	case reflect.Array:
		return map[string]any{"type": "array", "items": schemaOf(t.Elem()), "minItems": t.Len(), "maxItems": t.Len()}
	case reflect.Map:
		return orNull(map[string]any{"type": "object", "additionalProperties": schemaOf(t.Elem())})
	case reflect.Struct:
		properties, required := map[string]any{}, []string{}
		fieldsOf(t, properties, &required)
		slices.Sort(required)
		return map[string]any{"type": "object", "properties": properties, "required": required, "additionalProperties": false}
	}
	return map[string]any{}
}

// fieldsOf collects the fields of a struct, those of embedded ones among them.
func fieldsOf(t reflect.Type, properties map[string]any, required *[]string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		if f.Anonymous && name == "" {
			inner := f.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			fieldsOf(inner, properties, required)
			continue
		}
		if !f.IsExported() {
			continue
		}
		if name == "" {
			name = f.Name
		}
		properties[name] = schemaOf(f.Type)
		if !strings.Contains(options, "omit") {
			*required = append(*required, name)
		}
	}
}

// orNull lets null be, too.
func orNull(schema map[string]any) map[string]any {
	switch kind := schema["type"].(type) {
	case string:
		schema["type"] = []string{kind, "null"}
	}
	return schema
}
