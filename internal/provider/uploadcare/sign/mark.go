package sign

// Mark is the metadata key under which a browser names the upload that it sends a file for.
const Mark = "slipway_upload"

// Key is the metadata key under which we name the upload that we send a file of, and the installation that
// does: "<installation>/<upload id>".
const Key = "slipway_key"
