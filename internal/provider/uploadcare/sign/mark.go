package sign

// Mark is the metadata key under which a browser names the upload that it sends a file for.
const Mark = "slipway_upload"
