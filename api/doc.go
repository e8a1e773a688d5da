// Package api is Posthorn's REST API.
//
// openapi.yaml says what there is; openapi.gen.go, the routes and types made of
// it by oapi-codegen, is never edited by hand. A request passes, in this order:
//
//	middleware.go   its id, its route's name, the access log, a panic's end
//	auth.go         whose key it bears, and so which tenant it sees
//	validate.go     query and body against the schemas of openapi.yaml
//	endpoints.go …  one file for each kind of object: call a store, map the answer
//	errors.go       whatever went wrong becomes problem+json, by one table
//
// No other package of Posthorn knows HTTP statuses, and echo is known here only.
package api

//go:generate go tool oapi-codegen -config oapi-codegen.yaml openapi.yaml
