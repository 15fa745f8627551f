package httpapi

import (
	"bufio"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"slipway/internal/auth"
	"slipway/internal/nodetest"
	"slipway/internal/upload"
)

// example is the first block of a language in docs/events.md.
func example(t *testing.T, language string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/events.md")
	must(t, err)
	found := regexp.MustCompile("(?s)```" + language + "\n(.*?)```").FindSubmatch(text)
	if found == nil {
		t.Fatalf("docs/events.md has no example in %s", language)
	}
	return string(found[1])
}

func TestTheEventsDocumentsCommandFollowsAnUpload(t *testing.T) {
	s := open(t, nil)
	u := s.put(t, "a.txt")
	s.tell(t, "alice", pushed(u.ID, 3), became(u.ID, upload.Completed))
	cmd := exec.CommandContext(t.Context(), "sh", "-c", example(t, "sh"))
	cmd.Env = append(os.Environ(), "SLIPWAY_URL="+s.url, "SLIPWAY_TOKEN="+tokenOf(t, "alice"), "UPLOAD="+string(u.ID))
	out, err := cmd.Output()
	if err != nil || strings.Count(string(out), "\ndata: {") != 3 || !strings.Contains(string(out), `"status":"completed"`) {
		t.Errorf("got %s, %v", out, err)
	}
}

func TestTheEventsDocumentsProgramFollowsAllUploads(t *testing.T) {
	s := open(t, nil)
	dir := nodetest.Install(t, "internal/httpapi/eventsource")
	node := exec.CommandContext(t.Context(), "node", "--input-type=module")
	node.Dir = dir
	node.Stdin = strings.NewReader(example(t, "js"))
	node.Env = append(os.Environ(), "SLIPWAY_URL="+s.url, "SLIPWAY_TOKEN="+s.uploadToken(t, auth.Grant{User: "alice"}))
	node.Stderr = os.Stderr
	out, err := node.StdoutPipe()
	must(t, err)
	must(t, node.Start())
	lines := bufio.NewScanner(out)
	var id upload.ID
	for _, want := range []string{"following", "status queued", "status completed"} {
		if !lines.Scan() || !strings.HasSuffix(lines.Text(), want) {
			t.Errorf("got %q, want %q", lines.Text(), want)
		}
		switch want {
		case "following":
			id = s.put(t, "a.txt").ID
		case "status queued":
			s.tell(t, "alice", became(id, upload.Completed))
		}
	}
	must(t, node.Wait())
}
