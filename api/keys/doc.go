// Package keys keeps the API's keys and says who presents one.
//
// A key is 256 random bits. The database holds its SHA-256 alone, so that nobody
// who reads the table can call the API; a slow password hash would protect
// nothing here, because random keys can't be guessed. Nothing is cached: a
// revoked key stops working at the next request.
package keys
