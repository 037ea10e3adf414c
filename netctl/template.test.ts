import { describe, expect, it } from "vitest";
import { UsageFailure } from "./failure.ts";
import { parseTemplate, unescapeFormat } from "./template.ts";

const network = {
  Name: "web",
  Internal: false,
  Labels: { tier: "front", team: "a" },
  IPAM: { Config: [{ Subnet: "10.1.0.0/24" }, { Subnet: "fd01::/64", Gateway: "fd01::1" }] },
  Containers: {},
};

describe("parseTemplate()", () => {
  it.each([
    ["{{.Name}}: {{.Internal}}", "web: false"],
    ["{{json .Labels}}", '{"tier":"front","team":"a"}'],
    ["{{range .IPAM.Config}}{{.Subnet}} {{end}}", "10.1.0.0/24 fd01::/64 "],
    ["{{range $i, $c := .IPAM.Config}}{{$i}}={{$c.Subnet}};{{end}}", "0=10.1.0.0/24;1=fd01::/64;"],
    ["{{range $key, $value := .Labels}}{{$key}}={{$value}},{{end}}", "team=a,tier=front,"],
    ["{{range .Containers}}x{{else}}none{{end}}", "none"],
    ["{{if .Internal}}closed{{else}}open{{end}}", "open"],
    ['{{index .Labels "tier"}} {{len .IPAM.Config}} {{.Name | upper}}', "front 2 WEB"],
    ['{{index .IPAM.Config 1 "Gateway"}}', "fd01::1"],
    ["{{(index .IPAM.Config 0).Subnet}}", "10.1.0.0/24"],
    ["{{len (index .IPAM.Config 0).Subnet}}", "11"],
    ['{{if eq .Name "db" "web"}}yes{{end}}{{if not .Internal}}!{{end}}', "yes!"],
    ['{{if and .Labels (ne .Name "db")}}both{{end}} {{or .Internal .Name}}', "both web"],
    ['{{join (split .Name "e") "-"}} {{truncate .Name 1}} {{title "a b"}}', "w-b w A B"],
    ["{{.Labels}}", "map[team:a tier:front]"],
    ['{{"{{"}}{{range .IPAM.Config}}{{$.Name}}{{end}}', "{{webweb"],
    ["{{- .Name -}}  !", "web!"],
    ["{{json .}}", JSON.stringify(network)],
  ])("writes %s", (text, expected) => {
    expect(parseTemplate(text)(network)).toBe(expected);
  });

  it.each([
    ["{{.Nme}}", "there is no field Nme; there are Name"],
    ["{{.Name", "an action is not closed"],
    ["{{range .IPAM.Config}}", "{{end}} is missing"],
    ["{{template .Name}}", "is not understood"],
    ["{{}}", "an empty action is not understood"],
    ["{{(index .IPAM.Config 0}}", "a ( is not closed"],
    ["{{.Name)}}", "there is no ( before )"],
    ["{{.Name.More}}", "there is no field More"],
    ["{{Name}}", "Name is not understood"],
  ])("refuses %s", (text, message) => {
    expect(() => parseTemplate(text)(network)).toThrow(UsageFailure);
    expect(() => parseTemplate(text)(network)).toThrow(message);
  });
});

describe("unescapeFormat()", () => {
  it("reads what a shell hands over as it is written, and leaves Go's texts to Go", () => {
    const text = unescapeFormat(String.raw`{{.Name}}\t{{range .IPAM.Config}}{{.Subnet}}{{"\n"}}{{end}}`);
    expect(parseTemplate(text)(network)).toBe("web\t10.1.0.0/24\nfd01::/64\n");
  });
});
