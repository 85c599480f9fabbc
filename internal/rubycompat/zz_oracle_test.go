package rubycompat
import ("testing";"os";"bufio";"encoding/json";"fmt";"strconv")
func TestOracle(t *testing.T){
 f,_:=os.Open("/tmp/dates.jsonl"); sc:=bufio.NewScanner(f); bad,n:=0,0
 g:=func(p *int) string { if p==nil {return "-"}; return strconv.Itoa(*p)}
 for sc.Scan(){ var row []any; json.Unmarshal(sc.Bytes(),&row); text:=row[0].(string)
  for i,c:=range []bool{true,false}{ want:=""; r:=row[1].([]any)[i].([]any)
   for k:=0;k<7;k++{ if r[k]==nil {want+="- "} else {want+=strconv.Itoa(int(r[k].(float64)))+" "} }
   fr:=0.0; if r[7]!=nil {fr=r[7].(float64)}; want+=fmt.Sprint(fr)
   p:=ParseDate(text,c); gf,_:=strconv.ParseFloat("0."+p.Fraction+"0",64)
   got:=fmt.Sprintln(g(p.Year),g(p.Month),g(p.Day),g(p.Hour),g(p.Minute),g(p.Second),g(p.Offset),gf); got=got[:len(got)-1]
   n++; if got!=want { bad++; if bad<60 {t.Logf("%q %v\n  got  %s\n  want %s",text,c,got,want)} } } }
 t.Logf("%d of %d differ",bad,n)
}
