// Package subscriptions knows who wants what: endpoints with their event-type
// patterns and secrets, and which endpoints an event goes to.
//
// The tables endpoints, endpoint_versions and endpoint_secrets are the truth,
// written by Store alone. Every change counts the subscriptions' revision up,
// in the change's own transaction. A Directory is a process's copy of it all;
// the relay refreshes it after each claim, so that an event committed after an
// endpoint is matched against that endpoint, on every node.
package subscriptions
