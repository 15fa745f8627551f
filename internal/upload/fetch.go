package upload

// FetchArgs is the job that fetches a file from the web into staging. It carries only the id: the database says
// from where, and names the only job that may.
type FetchArgs struct {
	UploadID ID `json:"upload_id"`
}

// Kind names the job in River's table.
func (FetchArgs) Kind() string { return "fetch" }

// FetchQueue is the lane of imports: how long one takes is up to the web, and keeps no push waiting.
const FetchQueue = "fetch"
