package typeid

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

type thing struct{}

func (thing) Prefix() string { return "thing" }

// The vectors are the TypeID specification's valid.yml.
func TestString_MatchesTheTypeIDVectors(t *testing.T) {
	t.Parallel()
	for uuid, want := range map[string]string{
		"00000000-0000-0000-0000-000000000000": "00000000000000000000000000",
		"00000000-0000-0000-0000-000000000001": "00000000000000000000000001",
		"00000000-0000-0000-0000-00000000000a": "0000000000000000000000000a",
		"00000000-0000-0000-0000-000000000010": "0000000000000000000000000g",
		"00000000-0000-0000-0000-000000000020": "00000000000000000000000010",
		"ffffffff-ffff-ffff-ffff-ffffffffffff": "7zzzzzzzzzzzzzzzzzzzzzzzzz",
		"0110c853-1d09-52d8-d73e-1194e95b5f19": "0123456789abcdefghjkmnpqrs",
		"01890a5d-ac96-774b-bcce-b302099a8057": "01h455vb4pex5vsknk084sn02q",
	} {
		var id ID[thing]
		if err := id.Scan(uuid); err != nil {
			t.Fatal(err)
		}
		if got := id.String(); got != "thing_"+want {
			t.Errorf("%s: %s, want thing_%s", uuid, got, want)
		}
		if v, _ := id.Value(); !id.IsZero() && v != uuid {
			t.Errorf("Value() = %v, want %s", v, uuid)
		}
	}
}

func TestParse_RoundTripsEveryUUID(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var u [16]byte
		copy(u[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "uuid"))
		id := FromUUID[thing](u)
		back, err := Parse[thing](id.String())
		if err != nil || back != id {
			t.Fatalf("%v came back as %v, %v", id, back, err)
		}
	})
}

func TestParse_RefusesWhatNoIDIs(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"", "thing_", "thing_0", "evt_00000000000000000000000000",
		"thing_8zzzzzzzzzzzzzzzzzzzzzzzzz", // 129 bits
		"thing_0000000000000000000000000i",
		"thing_0000000000000000000000000U",
		"THING_00000000000000000000000000",
		"thing_00000000000000000000000000 ",
		strings.Repeat("x", 1<<20),
	} {
		if id, err := Parse[thing](s); err == nil {
			t.Errorf("%.40q was taken as %v", s, id)
		} else if len(err.Error()) > 300 {
			t.Errorf("the error holds the whole input: %d bytes", len(err.Error()))
		}
	}
}

func TestNewAt_SortsByTime(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	early, late := NewAt[thing](at), NewAt[thing](at.Add(time.Millisecond))
	if !(early.String() < late.String()) {
		t.Errorf("%v does not sort before %v", early, late)
	}
	if !early.Time().Equal(at) {
		t.Errorf("Time() = %v, want %v", early.Time(), at)
	}
	if floor := Floor[thing](at); !(floor.String() <= early.String()) {
		t.Errorf("floor %v is above %v", floor, early)
	}
}

func TestID_IsItsOutsideFormInJSON(t *testing.T) {
	t.Parallel()
	id := New[thing]()
	b, err := json.Marshal(map[string]any{"id": id})
	if err != nil || string(b) != `{"id":"`+id.String()+`"}` {
		t.Fatalf("%s, %v", b, err)
	}
	var back struct{ ID ID[thing] }
	if err := json.Unmarshal(b, &back); err != nil || back.ID != id {
		t.Fatalf("%v, %v", back, err)
	}
}

func TestNext_IsTheIDDirectlyAfter(t *testing.T) {
	t.Parallel()
	id := NewAt[thing](time.Now())
	id.uuid[15], id.uuid[14] = 0xff, 0xfe
	next := id.Next()
	if next.Compare(id) != 1 || next.uuid[14] != 0xff || next.uuid[15] != 0 || next.Time() != id.Time() {
		t.Errorf("%x is not directly after %x", next.uuid, id.uuid)
	}
}
