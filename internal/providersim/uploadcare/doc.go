// Package uploadcare is a local Uploadcare that its official clients cannot tell from the
// service: Upload API, REST API 0.7, part storage and CDN, on disk.
//
// What the services share is on one handler, told apart by path: the Upload API
// (/base/, /multipart/…, /info/, /from_url/…), the REST API (/files/…, /project/, /webhooks/…)
// and the CDN (/<uuid>/…). Part URLs must be on another authority, because clients treat every
// answer of the Upload API's own host as an API answer; [Sim.PartsHandler] is for a listener of
// its own.
//
// Besides the control routes of providersim there are
//
//	/_sim/config    the project's settings and the service's moods (Config)
//	/_sim/files     every file there ever was, with its MD5        (File)
//	/_sim/sessions  multipart uploads and the parts they have      (Session)
//
// Webhooks are told of file.uploaded, file.stored, file.deleted and file.info_updated, with
// payloads of version 0.7, signed by the webhook's own secret; Controls.Notices decides what
// becomes of each. Whether and when the service repeats a notification is not documented:
// Config.WebhookTries.
//
// Lifetimes (unstored files and part URLs, 24 hours each) run on the simulator's clock. What
// clients stamp with a clock of their own (Date, expire) is held against the true time, so
// that moving the simulator's clock does not lock its clients out.
//
// Sources: Upload API and REST API 0.7 references, "Errors" and "Storage" in the
// documentation, and recorded traffic of the official clients, read November 2026. S3's part
// of the work follows the S3 API reference.
package uploadcare
