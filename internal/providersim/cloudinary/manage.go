package cloudinary

import (
	"errors"
	"net/http"
)

// target is the asset that a call names by path and form. An asset's resource type under
// auto is an image's, as for every call but upload.
func (f *form) target(pathType, param string) (identity, error) {
	if f.get(param) == "" {
		return identity{}, missing(param)
	}
	if pathType == "auto" {
		pathType = "image"
	}
	return identity{ResourceType: pathType, Type: f.deliveryType(), PublicID: f.get(param)}, nil
}

// destroy deletes an asset. One that is not there, under exactly this identity, is no error.
func (s *Sim) destroy(_ *http.Request, f *form, pathType string) (any, error) {
	id, err := f.target(pathType, "public_id")
	if err != nil {
		return nil, err
	}
	a, found, err := s.assets.remove(id)
	if err != nil {
		return nil, err
	}
	result := "not found"
	if found {
		result = "ok"
		s.notifyDelete(f.get("notification_url"), a)
	}
	return map[string]string{"result": result}, nil
}

// explicit answers the asset, after changing its tags, context, metadata or access.
func (s *Sim) explicit(r *http.Request, f *form, pathType string) (any, error) {
	id, err := f.target(pathType, "public_id")
	if err != nil {
		return nil, err
	}
	if err := f.check(s.Settings()); err != nil {
		return nil, err
	}
	now := s.controls.Clock.Now()
	if _, ok := s.assets.get(id, now); !ok {
		return nil, notFound(id.PublicID)
	}
	before, a, ok, err := s.assets.change(id, func(a *asset) {
		a.annotate(f)
		a.UpdatedAt = now
	})
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, notFound(id.PublicID)
	}
	v := s.view(r, a)
	s.addEager(&v, r, f, a)
	s.notifyChanges(f.get("notification_url"), before, a)
	s.notifyEager(f, a, v, 0)
	return v, nil
}

// rename gives an asset another public id or delivery type. Its asset id stays.
func (s *Sim) rename(r *http.Request, f *form, pathType string) (any, error) {
	from, err := f.target(pathType, "from_public_id")
	if err != nil {
		return nil, err
	}
	to := from
	if to.PublicID = f.get("to_public_id"); to.PublicID == "" {
		return nil, missing("to_public_id")
	}
	if err := checkPublicID(to.PublicID); err != nil {
		return nil, err
	}
	if t := f.get("to_type"); t != "" {
		to.Type = t
	}
	a, ok, err := s.assets.move(from, to, f.flag("overwrite", false), s.controls.Clock.Now())
	switch {
	case errors.Is(err, errTaken):
		return nil, fail(http.StatusBadRequest, "to_public_id "+to.PublicID+" already exists")
	case err != nil:
		return nil, err
	case !ok:
		return nil, notFound(from.PublicID)
	}
	s.notifyRename(f.get("notification_url"), from, a)
	return s.view(r, a), nil
}
