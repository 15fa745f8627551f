//go:build unsynced

package dir

// Built with the tag unsynced, a store waits for no disk, and loses what it has acknowledged when the machine goes
// down. It is there to be measured beside others that do not wait; no program is delivered so.

// Datasync does nothing.
func (d disk) Datasync() error { return nil }

// Writeback does nothing.
func (d disk) Writeback(int64, int64) error { return nil }

func syncDir(string) error { return nil }
