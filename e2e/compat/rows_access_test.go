package compat

import (
	public "github.com/hashicorp/nomad/api"
)

// Access control and what no free server has.
var accessRows = []row{
	unbuilt("PUT /v1/acl/bootstrap", func(w *world) error { return fails(w.ACLTokens().Bootstrap(nil)) }),
	read("GET /v1/acl/tokens", func(w *world) ([]*public.ACLTokenListStub, *public.QueryMeta, error) {
		return w.ACLTokens().List(nil)
	}, is([]*public.ACLTokenListStub{})),
	unbuilt("PUT /v1/acl/token", func(w *world) error { return fails(w.ACLTokens().Create(&public.ACLToken{Name: "t"}, nil)) }),
	absent("GET /v1/acl/token/{id}", "ACL token not found", func(w *world) error { return fails(w.ACLTokens().Info(noID, nil)) }),
	unbuilt("PUT /v1/acl/token/{id}", func(w *world) error { return fails(w.ACLTokens().Update(&public.ACLToken{AccessorID: noID}, nil)) }),
	unbuilt("DELETE /v1/acl/token/{id}", func(w *world) error { return fails(w.ACLTokens().Delete(noID, nil)) }),
	unbuilt("PUT /v1/acl/token/onetime/exchange", func(w *world) error { return fails(w.ACLTokens().ExchangeOneTimeToken("secret", nil)) }),
	read("GET /v1/acl/policies", func(w *world) ([]*public.ACLPolicyListStub, *public.QueryMeta, error) {
		return w.ACLPolicies().List(nil)
	}, is([]*public.ACLPolicyListStub{})),
	read("GET /v1/acl/policy/self", func(w *world) ([]*public.ACLPolicyListStub, *public.QueryMeta, error) {
		return w.ACLPolicies().Self(nil)
	}, is([]*public.ACLPolicyListStub{})),
	absent("GET /v1/acl/policy/{name}", "ACL policy not found", func(w *world) error { return fails(w.ACLPolicies().Info("p", nil)) }),
	unbuilt("PUT /v1/acl/policy/{name}", func(w *world) error { return fails(w.ACLPolicies().Upsert(&public.ACLPolicy{Name: "p"}, nil)) }),
	unbuilt("DELETE /v1/acl/policy/{name}", func(w *world) error { return fails(w.ACLPolicies().Delete("p", nil)) }),
	read("GET /v1/acl/roles", func(w *world) ([]*public.ACLRoleListStub, *public.QueryMeta, error) {
		return w.ACLRoles().List(nil)
	}, is([]*public.ACLRoleListStub{})),
	unbuilt("PUT /v1/acl/role", func(w *world) error { return fails(w.ACLRoles().Create(&public.ACLRole{Name: "r"}, nil)) }),
	absent("GET /v1/acl/role/{id}", "ACL role not found", func(w *world) error { return fails(w.ACLRoles().Get(noID, nil)) }),
	absent("GET /v1/acl/role/name/{name}", "ACL role not found", func(w *world) error { return fails(w.ACLRoles().GetByName("r", nil)) }),
	unbuilt("PUT /v1/acl/role/{id}", func(w *world) error { return fails(w.ACLRoles().Update(&public.ACLRole{ID: noID}, nil)) }),
	unbuilt("DELETE /v1/acl/role/{id}", func(w *world) error { return fails(w.ACLRoles().Delete(noID, nil)) }),
	read("GET /v1/acl/auth-methods", func(w *world) ([]*public.ACLAuthMethodListStub, *public.QueryMeta, error) {
		return w.ACLAuthMethods().List(nil)
	}, is([]*public.ACLAuthMethodListStub{})),
	unbuilt("PUT /v1/acl/auth-method", func(w *world) error { return fails(w.ACLAuthMethods().Create(&public.ACLAuthMethod{Name: "m"}, nil)) }),
	absent("GET /v1/acl/auth-method/{name}", "ACL auth-method not found", func(w *world) error { return fails(w.ACLAuthMethods().Get("m", nil)) }),
	unbuilt("PUT /v1/acl/auth-method/{name}", func(w *world) error {
		return fails(w.ACLAuthMethods().Update(&public.ACLAuthMethod{Name: "m"}, nil))
	}),
	unbuilt("DELETE /v1/acl/auth-method/{name}", func(w *world) error { return fails(w.ACLAuthMethods().Delete("m", nil)) }),
	read("GET /v1/acl/binding-rules", func(w *world) ([]*public.ACLBindingRuleListStub, *public.QueryMeta, error) {
		return w.ACLBindingRules().List(nil)
	}, is([]*public.ACLBindingRuleListStub{})),
	unbuilt("PUT /v1/acl/binding-rule", func(w *world) error { return fails(w.ACLBindingRules().Create(&public.ACLBindingRule{}, nil)) }),
	absent("GET /v1/acl/binding-rule/{id}", "ACL binding rule not found", func(w *world) error { return fails(w.ACLBindingRules().Get(noID, nil)) }),
	unbuilt("PUT /v1/acl/binding-rule/{id}", func(w *world) error {
		return fails(w.ACLBindingRules().Update(&public.ACLBindingRule{ID: noID}, nil))
	}),
	unbuilt("DELETE /v1/acl/binding-rule/{id}", func(w *world) error { return fails(w.ACLBindingRules().Delete(noID, nil)) }),
	unbuilt("PUT /v1/acl/identity/client-introduction-token", func(w *world) error {
		return fails(w.ACLIdentity().CreateClientIntroductionToken(&public.ACLIdentityClientIntroductionTokenRequest{}, nil))
	}),
	unbuilt("PUT /v1/acl/login", func(w *world) error { return fails(w.ACLAuth().Login(&public.ACLLoginRequest{}, nil)) }),
	unbuilt("PUT /v1/acl/oidc/{verb}", func(w *world) error { return fails(w.ACLAuth().GetAuthURL(&public.ACLOIDCAuthURLRequest{}, nil)) }),

	paid("GET /v1/quotas", func(w *world) error { return fails(w.Quotas().List(nil)) }),
	paid("GET /v1/quota-usages", func(w *world) error { return fails(w.Quotas().ListUsage(nil)) }),
	paid("PUT /v1/quota", func(w *world) error { return fails(w.Quotas().Register(&public.QuotaSpec{Name: "q"}, nil)) }),
	paid("GET /v1/quota/{name}", func(w *world) error { return fails(w.Quotas().Info("q", nil)) }),
	paid("PUT /v1/quota/{name}", func(w *world) error { return put(w, "/v1/quota/q", &public.QuotaSpec{Name: "q"}) }),
	paid("DELETE /v1/quota/{name}", func(w *world) error { return fails(w.Quotas().Delete("q", nil)) }),
	paid("GET /v1/quota/usage/{name}", func(w *world) error { return fails(w.Quotas().Usage("q", nil)) }),
	paid("GET /v1/sentinel/policies", func(w *world) error { return fails(w.SentinelPolicies().List(nil)) }),
	paid("GET /v1/sentinel/policy/{name}", func(w *world) error { return fails(w.SentinelPolicies().Info("p", nil)) }),
	paid("PUT /v1/sentinel/policy/{name}", func(w *world) error {
		return fails(w.SentinelPolicies().Upsert(&public.SentinelPolicy{Name: "p"}, nil))
	}),
	paid("DELETE /v1/sentinel/policy/{name}", func(w *world) error { return fails(w.SentinelPolicies().Delete("p", nil)) }),
	paid("GET /v1/recommendations", func(w *world) error { return fails(w.Recommendations().List(nil)) }),
	paid("PUT /v1/recommendations/apply", func(w *world) error { return fails(w.Recommendations().Apply([]string{noID}, false)) }),
	paid("PUT /v1/recommendation", func(w *world) error { return fails(w.Recommendations().Upsert(&public.Recommendation{}, nil)) }),
	paid("GET /v1/recommendation/{id}", func(w *world) error { return fails(w.Recommendations().Info(noID, nil)) }),
	paid("DELETE /v1/recommendation/{id}", func(w *world) error { return remove(w, "/v1/recommendation/"+noID) }),
}
