package webhook_test

import (
	"strings"
	"testing"
	"time"

	"github.com/posthorn/posthorn/webhook"
)

func TestParseEvent(t *testing.T) {
	t.Parallel()

	t.Run("KeepsTheDataByteForByte", func(t *testing.T) {
		t.Parallel()
		for _, data := range []string{
			`{"order_id":17}`, "{\n\t \"b\" : 1 ,\r\n\"a\":1.0}", `12345678901234567890.10`, `"\u0000<é\u00e9"`, `null`, `[]`,
		} {
			body := []byte(`{"type":"order.paid","timestamp":"2026-01-02T15:04:05.123456+01:00","data":` + data + `,"more":1}`)
			event, err := webhook.ParseEvent(body)
			if err != nil {
				t.Errorf("%s: %v", data, err)
				continue
			}
			clear(body)
			if want := time.Date(2026, 1, 2, 14, 4, 5, 123456000, time.UTC); event.Type != "order.paid" || !event.Timestamp.Equal(want) {
				t.Errorf("%s: event is %s at %s", data, event.Type, event.Timestamp)
			}
			if string(event.Data) != data {
				t.Errorf("data is %q, want %q", event.Data, data)
			}
		}
	})

	for name, body := range map[string]string{
		"Nothing":            ``,
		"NotJSON":            `order.paid`,
		"Null":               `null`,
		"AnArray":            `[]`,
		"NoType":             `{"timestamp":"2026-01-02T15:04:05Z","data":{}}`,
		"EmptyType":          `{"type":"","timestamp":"2026-01-02T15:04:05Z","data":{}}`,
		"NumberForType":      `{"type":1,"timestamp":"2026-01-02T15:04:05Z","data":{}}`,
		"NoTimestamp":        `{"type":"order.paid","data":{}}`,
		"UnixTimestamp":      `{"type":"order.paid","timestamp":1767366245,"data":{}}`,
		"TimestampWithBlank": `{"type":"order.paid","timestamp":"2026-01-02 15:04:05","data":{}}`,
		"NoData":             `{"type":"order.paid","timestamp":"2026-01-02T15:04:05Z"}`,
		"MoreBehind":         `{"type":"order.paid","timestamp":"2026-01-02T15:04:05Z","data":{}}{}`,
		"Depth100000":        `{"type":"order.paid","timestamp":"2026-01-02T15:04:05Z","data":` + strings.Repeat("[", 100000) + strings.Repeat("]", 100000) + `}`,
	} {
		t.Run("Refuses"+name, func(t *testing.T) {
			t.Parallel()
			_, err := webhook.ParseEvent([]byte(body))
			wantError(t, err, webhook.ErrInvalidEvent)
		})
	}
}
