package upload

// PushArgs is the job that sends a staged file to its provider. It carries only the id: whoever
// works it reads the row, and works only while uploads.job_id names this very job.
type PushArgs struct {
	UploadID ID `json:"upload_id"`
}

// Kind names the job in River's table.
func (PushArgs) Kind() string { return "push" }

// SmallFile is the size in bytes below which a push goes into its provider's lane for small
// files, so that it never waits behind large ones.
const SmallFile = 8 << 20

// Queue names the lane of a push: two for each provider.
func Queue(provider string, size int64) string {
	if size < SmallFile {
		return provider + "_small"
	}
	return provider + "_large"
}

// ResumeQueue names the lane of a push that has lost its worker. Of the small files' own lane a slot is free soon
// enough; those of the large ones' may be taken for hours, so that another waits for what comes from the dead.
func ResumeQueue(provider string, size int64) string {
	if size < SmallFile {
		return Queue(provider, size)
	}
	return provider + "_resume"
}

// Queues are all lanes of a provider.
func Queues(provider string) []string {
	return []string{Queue(provider, 0), Queue(provider, SmallFile), ResumeQueue(provider, SmallFile)}
}
