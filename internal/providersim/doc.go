// Package providersim is the floor that the local provider simulators stand on: bytes and
// records on disk, a clock that can be moved, a log of requests, a slow line, and faults.
//
// A simulator is an [http.Handler] in a package of its own (uploadcare, cloudinary). It hands
// that handler to [Controls.Handler], which adds the control routes:
//
//	/_sim/faults    what goes wrong, and how often        (Faults)
//	/_sim/requests  what was asked, and how much was sent (Requests)
//	/_sim/clock     what time it is                       (Clock)
//	/_sim/line      how slow the line is                  (Line)
//	/_sim/notices   what was told to webhooks, and what becomes of what will be (Notices)
//
// Control routes are never delayed, broken or counted. Every other /_sim/ route is the
// simulator's own. Nothing here knows how Slipway talks to a provider: a simulator is held
// to the vendors' own clients and documents.
package providersim
