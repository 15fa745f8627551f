// Package guides keeps what the two Neon guides, "Media storage with Uploadcare" and "Media storage with
// Cloudinary", tell their readers to run: word for word, but for the drivers' placeholders.
package guides

// The tables that file metadata is kept in.
const (
	UploadcareTable = `
   CREATE TABLE IF NOT EXISTS uploadcare_files (
       id SERIAL PRIMARY KEY,
       file_id TEXT NOT NULL UNIQUE,
       file_url TEXT NOT NULL,
       user_id TEXT NOT NULL,
       upload_timestamp TIMESTAMPTZ DEFAULT NOW()
   );`
	CloudinaryTable = `
    CREATE TABLE IF NOT EXISTS cloudinary_files (
        id SERIAL PRIMARY KEY,
        public_id TEXT NOT NULL UNIQUE,  -- Cloudinary's unique identifier for the asset
        media_url TEXT NOT NULL,         -- Media URL for the asset on Cloudinary's CDN
        resource_type TEXT NOT NULL,     -- Type of asset (e.g., 'image', 'video', 'raw')
        user_id TEXT NOT NULL,           -- User associated with the file
        upload_timestamp TIMESTAMPTZ DEFAULT NOW()
    );`
)

// What a client runs against the guides' servers, and for Cloudinary against its upload API in between.
const (
	UploadcareUpload = `curl -X POST http://localhost:3000/upload \
    -F "file=@/path/to/your/image.jpg" \
    -F "fileName=my-test-image.jpg"`

	CloudinarySignature = `curl -X GET http://localhost:3000/generate-signature`

	CloudinaryUpload = `curl -X POST https://api.cloudinary.com/v1_1/<YOUR_CLOUD_NAME>/image/upload \
     -F "file=@/path/to/your/test-image.jpg" \
     -F "api_key=<API_KEY_FROM_STEP_1>" \
     -F "timestamp=<TIMESTAMP_FROM_STEP_1>" \
     -F "signature=<SIGNATURE_FROM_STEP_1>"`

	CloudinarySave = `curl -X POST http://localhost:3000/save-metadata \
     -H "Content-Type: application/json" \
     -d '{
          "public_id": "<PUBLIC_ID_FROM_STEP_2>",
          "secure_url": "<SECURE_URL_FROM_STEP_2>",
          "resource_type": "<RESOURCE_TYPE_FROM_STEP_2>"
        }'`
)

// How the guides' servers write a row: the asset, its URL, for Cloudinary its resource type, the user.
const (
	UploadcareInsert = `
            INSERT INTO uploadcare_files (file_id, file_url, user_id)
            VALUES ($1, $2, $3)
        `
	CloudinaryInsert = `
      INSERT INTO cloudinary_files (public_id, media_url, resource_type, user_id)
      VALUES ($1, $2, $3, $4)
    `
)

// How an app finds the files of user_123; for Cloudinary the images alone.
const (
	UploadcareSelect = `
SELECT
    id,              -- Your database primary key
    file_id,         -- Uploadcare UUID
    file_url,        -- Uploadcare CDN URL
    user_id,         -- The user associated with the file
    upload_timestamp
FROM
    uploadcare_files
WHERE
    user_id = 'user_123'; -- Use actual authenticated user ID
`
	CloudinarySelect = `
SELECT
    id,
    public_id,      -- Cloudinary Public ID
    media_url,      -- HTTPS URL for the asset
    resource_type,
    user_id,
    upload_timestamp
FROM
    cloudinary_files
WHERE
    user_id = 'user_123' AND resource_type = 'image'; -- Use actual user ID & desired type
`
)
