package upload

// DeleteArgs is the job that removes an asset from its provider. It carries only the id of the row in
// file_deletions: that says what is to be removed, and names the only job that may.
type DeleteArgs struct {
	DeletionID ID `json:"deletion_id"`
}

// Kind names the job in River's table.
func (DeleteArgs) Kind() string { return "delete_asset" }

// DeleteQueue is a provider's lane for deletions, so that many of them keep nothing else waiting.
func DeleteQueue(provider string) string { return provider + "_delete" }
