package dispatcher

import "github.com/posthorn/posthorn/internal/typeid"

// DeliveryID names a delivery: dlv_ and 26 base32 characters outside.
type DeliveryID = typeid.ID[deliveryKind]

type deliveryKind struct{}

// Prefix makes the kind of id that DeliveryID is.
func (deliveryKind) Prefix() string { return "dlv" }

// ParseDeliveryID reads the outside form of a delivery's id.
func ParseDeliveryID(s string) (DeliveryID, error) { return typeid.Parse[deliveryKind](s) }

// DeadLetterID names a dead letter: dl_ and 26 base32 characters outside.
type DeadLetterID = typeid.ID[deadLetterKind]

type deadLetterKind struct{}

// Prefix makes the kind of id that DeadLetterID is.
func (deadLetterKind) Prefix() string { return "dl" }

// ParseDeadLetterID reads the outside form of a dead letter's id.
func ParseDeadLetterID(s string) (DeadLetterID, error) { return typeid.Parse[deadLetterKind](s) }
