// Package sample is the two ends that posthorn dev puts around the service, so
// that something is to be seen at once: a shop that publishes events and a
// subscriber that receives them. Both are written as a user's own programs
// would be: the shop with package outbox, the subscriber with package webhook.
//
//	Shop        POST /orders ──┐ one transaction: shop.orders + posthorn.outbox
//	                           ▼
//	            (Posthorn reads, signs, sends, retries)
//	                           │
//	Subscriber  POST /webhooks ◄┘ verifies and prints; POST /break, POST /repair
//
// The shop rolls some orders back on purpose, after it has published them: none
// of those may ever arrive.
package sample
