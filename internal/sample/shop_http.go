package sample

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const shopHelp = `The sample shop of Posthorn. It commits each order together with its event.

  GET  /orders            the latest 100 orders
  POST /orders            {"customer": "Ada", "amount_cents": 1999, "currency": "EUR"}
                          with "fail": true the order and its event are rolled back (402)
  POST /orders/{id}/pay   marks the order paid, and publishes order.paid
`

// maxOrderBytes is ample for an order.
const maxOrderBytes = 16 << 10

// Handler serves the shop over HTTP; GET / lists the routes.
func (s *Shop) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { writeText(w, shopHelp) })
	mux.HandleFunc("GET /orders", s.serveList)
	mux.HandleFunc("POST /orders", s.servePlace)
	mux.HandleFunc("POST /orders/{id}/pay", s.servePay)
	return mux
}

func (s *Shop) serveList(w http.ResponseWriter, r *http.Request) {
	orders, err := s.Orders(r.Context())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"data": orders})
}

func (s *Shop) servePlace(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Customer    string `json:"customer"`
		AmountCents int64  `json:"amount_cents"`
		Currency    string `json:"currency"`
		Fail        bool   `json:"fail"`
	}
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxOrderBytes))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&body); err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	n := NewOrder{Customer: body.Customer, AmountCents: body.AmountCents, Currency: body.Currency}
	if n.Currency == "" {
		n.Currency = "EUR"
	}
	if err := n.check(); err != nil {
		writeError(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	order, err := s.PlaceOrder(r.Context(), n, body.Fail)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusCreated, order)
}

func (s *Shop) servePay(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		writeError(w, http.StatusNotFound, ErrNoSuchOrder.Error())
		return
	}
	order, err := s.PayOrder(r.Context(), id)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, order)
}

var currencyForm = regexp.MustCompile(`^[A-Z]{3}$`)

// check says, before the database would, what is wrong with an order.
func (n NewOrder) check() error {
	switch length := utf8.RuneCountInString(n.Customer); {
	case length < 1 || length > 200:
		return errors.New("customer must have 1 to 200 characters")
	case strings.ContainsFunc(n.Customer, unicode.IsControl):
		return errors.New("customer must have no control characters")
	case n.AmountCents < 1:
		return errors.New("amount_cents must be at least 1")
	case !currencyForm.MatchString(n.Currency):
		return errors.New("currency must be three capital letters, such as EUR")
	}
	return nil
}

// fail maps an error to its answer. What the customer is not to blame for is
// logged and not shown.
func (s *Shop) fail(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, ErrCardDeclined):
		writeError(w, http.StatusPaymentRequired, err.Error()+"; the order and its event were rolled back")
	case errors.Is(err, ErrNoSuchOrder):
		writeError(w, http.StatusNotFound, err.Error())
	case errors.Is(err, ErrAlreadyPaid):
		writeError(w, http.StatusConflict, err.Error())
	default:
		s.log.ErrorContext(r.Context(), "the shop failed", "error", err)
		writeError(w, http.StatusInternalServerError, "the shop failed; its log says why")
	}
}

func writeText(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = fmt.Fprint(w, text) // the client has gone
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // the client has gone
}

func writeError(w http.ResponseWriter, status int, message string) {
	writeJSON(w, status, map[string]string{"error": message})
}
